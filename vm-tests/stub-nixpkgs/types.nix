# Types of options: what each takes (`check`) and what several definitions come to (`merge`, with the option's name).
{ evalModules }:
let
  same =
    name: values:
    if builtins.all (value: value == builtins.head values) values then
      builtins.head values
    else
      throw "The option `${name}' has conflicting definition values";
  scalar = description: check: {
    inherit description check;
    merge = same;
  };
  integer =
    description: low: high:
    scalar description (value: builtins.isInt value && low <= value && value <= high);
  # Elements are checked where they are, for the message to name them.
  checked =
    type: name: values:
    if builtins.all type.check values then
      type.merge name values
    else
      throw "A definition for option `${name}' is not of type `${type.description}'";
in
rec {
  inherit checked;

  bool = scalar "boolean" builtins.isBool;
  int = scalar "signed integer" builtins.isInt;
  str = scalar "string" builtins.isString;
  path = scalar "absolute path" (
    value: builtins.isPath value || builtins.isString value && builtins.substring 0 1 value == "/"
  );
  package = scalar "package" (value: value.type or null == "derivation");
  anything = scalar "anything" (value: true);
  unspecified = scalar "unspecified value" (value: true);
  strMatching =
    pattern:
    scalar "string matching the pattern ${pattern}" (
      value: builtins.isString value && builtins.match pattern value != null
    );
  enum =
    values:
    scalar "one of ${builtins.toJSON values}" (value: builtins.elem value values);
  ints = {
    unsigned = integer "unsigned integer" 0 9223372036854775807;
    between = low: high: integer "integer between ${toString low} and ${toString high}" low high;
  };

  nullOr = type: {
    description = "null or ${type.description}";
    check = value: value == null || type.check value;
    merge = name: values: if builtins.elem null values then same name values else type.merge name values;
  };
  oneOf = types: {
    description = builtins.concatStringsSep " or " (map (type: type.description) types);
    check = value: builtins.any (type: type.check value) types;
    merge =
      name: values:
      let
        fitting = builtins.filter (type: builtins.all type.check values) types;
      in
      (builtins.head (fitting ++ [ { merge = same; } ])).merge name values;
  };
  listOf = type: {
    description = "list of ${type.description}";
    check = builtins.isList;
    merge =
      name: values: map (value: checked type "${name}.*" [ value ]) (builtins.concatLists values);
  };
  attrsOf = type: {
    elementOf = type;
    description = "attribute set of ${type.description}";
    check = builtins.isAttrs;
    merge =
      name: values:
      builtins.mapAttrs (key: checked type "${name}.${key}") (
        builtins.zipAttrsWith (key: definitions: definitions) values
      );
  };
  submodule = module: {
    description = "submodule";
    check = builtins.isAttrs;
    merge =
      name: values:
      (evalModules {
        prefix = [ name ];
        modules = [ module ] ++ map (config: { inherit config; }) values;
      }).config;
  };
}
