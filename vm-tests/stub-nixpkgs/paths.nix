# Sets by the path of one attribute.
rec {
  setAttrByPath =
    path: value:
    if path == [ ] then
      value
    else
      { ${builtins.head path} = setAttrByPath (builtins.tail path) value; };
  getAttrFromPath = path: set: builtins.foldl' (below: name: below.${name}) set path;
}
