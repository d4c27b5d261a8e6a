# A small evaluator of modules: imports, disabledModules, nested options, mkIf, mkForce, merging by type, freeform
# types. What is undeclared is refused, as is a key of a module or of an option that is not known here.
let
  inherit (builtins) attrNames concatMap isAttrs;
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
  # looked at before an option is asked for, since they are made of options.
  open =
    definition:
    let
      inherit (definition) value;
    in
    if isKind "if" value then
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
      definition;

  mergeOption =
    path: option: definitions:
    let
      name = nameOf path;
      opened = map open definitions;
      held = builtins.filter (definition: builtins.all (condition: condition) definition.conditions) opened;
      forced = builtins.filter (definition: definition.forced) held;
      given = map (definition: definition.value) (if forced == [ ] then held else forced);
      values = if given == [ ] && option ? default then [ option.default ] else given;
    in
    if values == [ ] then
      throw "The option `${name}' was accessed but has no value defined"
    else
      types.checked option.type name values;

  mergeTree =
    path: options: freeform: definitions:
    let
      opened = map open definitions;
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
              loaded (arguments // { inherit config; })
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
      config = mergeTree prefix options freeform (
        map (module: {
          value = module.config or { };
          conditions = [ ];
          forced = false;
        }) loaded
      );
    in
    {
      inherit config;
    };
in
{
  inherit evalModules types;
  mkOption =
    option:
    known "an option" [
      "type"
      "default"
      "defaultText"
      "example"
      "description"
    ] option
    // {
      _type = "option";
    };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkForce = content: {
    _type = "force";
    inherit content;
  };
}
