# A small evaluator of modules: imports, disabledModules, nested options, mkIf, mkForce, mkMerge, merging by type, freeform
# types, renamed options. What is undeclared is refused, as is a key of a module or of an option that is not known here.
let
  inherit (builtins) attrNames concatMap isAttrs;
  inherit (import ./paths.nix) getAttrFromPath setAttrByPath;
  isKind = kind: value: isAttrs value && value._type or null == kind;
  nameOf = builtins.concatStringsSep ".";
  known =
    what: names: value:
    let
      others = attrNames (removeAttrs value names);
    in
    if others == [ ] then value else throw "stand-in for nixpkgs: unknown in ${what}: ${toString others}";

  types = import ./types.nix { inherit evalModules; };

  # A definition is a value, the conditions that it holds under, and whether it replaces others. Conditions are not
  # looked at before an option is asked for, since they are made of options. One of mkMerge is several.
  open =
    definition:
    let
      inherit (definition) value;
    in
    if isKind "merge" value then
      concatMap (content: open (definition // { value = content; })) value.contents
    else if isKind "if" value then
      open (
        definition
        // {
          value = value.content;
          conditions = definition.conditions ++ [ value.condition ];
        }
      )
    else if isKind "force" value then
      open (
        definition
        // {
          value = value.content;
          forced = true;
        }
      )
    else
      [ definition ];
  # Those that count.
  held =
    definitions:
    builtins.filter (definition: builtins.all (condition: condition) definition.conditions) (
      concatMap open definitions
    );

  mergeOption =
    path: option: allDefinitions:
    let
      name = nameOf path;
      definitions = held allDefinitions;
      forced = builtins.filter (definition: definition.forced) definitions;
      given = map (definition: definition.value) (if forced == [ ] then definitions else forced);
      values = if given == [ ] && option ? default then [ option.default ] else given;
    in
    (option.apply or (value: value)) (
      if values == [ ] then
        throw "The option `${name}' was accessed but has no value defined"
      else
        types.checked (option.type or types.unspecified) name values
    );

  mergeTree =
    path: options: freeform: definitions:
    let
      opened = concatMap open definitions;
      below =
        name:
        concatMap (
          definition:
          if definition.value ? ${name} then [ (definition // { value = definition.value.${name}; }) ] else [ ]
        ) opened;
      others = builtins.foldl' (all: definition: all // removeAttrs definition.value (attrNames options)) { } opened;
      declared = builtins.mapAttrs (
        name: option:
        let
          merge = if isKind "option" option then mergeOption else path: options: mergeTree path options null;
        in
        merge (path ++ [ name ]) option (below name)
      ) options;
    in
    if others == { } then
      declared
    else if freeform == null then
      throw "The option `${nameOf (path ++ [ (builtins.head (attrNames others)) ])}' does not exist"
    else
      builtins.mapAttrs (
        name: _:
        mergeOption (path ++ [ name ]) { type = freeform.elementOf; } (below name)
      ) others
      // declared;

  mergeOptions =
    a: b:
    a
    // builtins.mapAttrs (
      name: option:
      if !(a ? ${name}) then
        option
      else if isKind "option" a.${name} || isKind "option" option then
        throw "The option `${name}' is already declared"
      else
        mergeOptions a.${name} option
    ) b;

  # What a module is told of each option: its type and what defines it.
  describe =
    options: definitions:
    builtins.mapAttrs (
      name: option:
      let
        opened = builtins.filter (definition: definition.value ? ${name}) (concatMap open definitions);
        below = map (definition: definition // { value = definition.value.${name}; }) opened;
      in
      if isKind "option" option then
        rec {
          definitions = held below;
          isDefined = definitions != [ ];
          type = option.type or types.unspecified;
        }
      else
        describe option below
    ) options;

  evalModules =
    {
      modules,
      arguments ? { },
      prefix ? [ ],
    }:
    let
      load =
        module:
        let
          loaded = if builtins.isPath module then import module else module;
          called =
            if builtins.isFunction loaded then
              loaded (arguments // { inherit config; options = describe options definitions; })
            else
              loaded;
          structured = called ? options || called ? config || called ? freeformType;
          special = [
            "imports"
            "disabledModules"
          ];
        in
        concatMap load (called.imports or [ ])
        ++ [
          (
            if structured then
              known "a module" (
                special
                ++ [
                  "options"
                  "config"
                  "freeformType"
                  "key"
                ]
              ) called
            else
              { config = removeAttrs called special; }
          )
        ];
      all = concatMap load modules;
      disabled = concatMap (module: module.disabledModules or [ ]) all;
      loaded = builtins.filter (module: !builtins.elem (module.key or null) disabled) all;
      options = builtins.foldl' mergeOptions { } (map (module: module.options or { }) loaded);
      freeform = builtins.foldl' (found: module: module.freeformType or found) null loaded;
      definitions = map (module: {
        value = module.config or { };
        conditions = [ ];
        forced = false;
      }) loaded;
      config = mergeTree prefix options freeform definitions;
    in
    {
      inherit config;
    };
in
rec {
  inherit evalModules types;
  mkOption =
    option:
    known "an option" [
      "type"
      "default"
      "defaultText"
      "example"
      "description"
      "visible"
      "apply"
    ] option
    // {
      _type = "option";
    };
  # Reading the old option gives the new one's value. What is defined there is defined here, of the same type and by the
  # same priority, and warned about.
  mkRenamedOptionModule =
    from: to:
    { config, options, ... }:
    let
      old = getAttrFromPath from options;
    in
    {
      options = setAttrByPath from {
        _type = "option";
        inherit (getAttrFromPath to options) type;
        apply = _: getAttrFromPath to config;
      };
      config = mkMerge [
        {
          warnings =
            if old.isDefined then
              [ "The option `${nameOf from}' has been renamed to `${nameOf to}'." ]
            else
              [ ];
        }
        (setAttrByPath to (
          mkMerge (
            map (definition: if definition.forced then mkForce definition.value else definition.value) old.definitions
          )
        ))
      ];
    };
  # The new option's value is made of the whole configuration, once the old option is defined.
  mkChangedOptionModule =
    from: to: change:
    { config, options, ... }:
    {
      options = setAttrByPath from {
        _type = "option";
        default = "_mkMergedOptionModule";
      };
      config =
        let
          isDefined = getAttrFromPath from config != "_mkMergedOptionModule";
        in
        {
          warnings =
            if isDefined then
              [ "The option `${nameOf from}' has been changed to `${nameOf to}' that has a different type." ]
            else
              [ ];
        }
        // setAttrByPath to (mkMerge (if isDefined then [ (change config) ] else [ ]));
    };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkForce = content: {
    _type = "force";
    inherit content;
  };
}
