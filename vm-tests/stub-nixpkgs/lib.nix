# What is used of nixpkgs' lib.
{ packagesOf, present }:
let
  modules = import ./modules.nix;
  lib = {
    inherit (modules)
      evalModules
      mkChangedOptionModule
      mkForce
      mkIf
      mkOption
      mkRenamedOptionModule
      types
      ;
    inherit (builtins) all any head mapAttrs replaceStrings;
    inherit (import ./paths.nix) getAttrFromPath;

    mkEnableOption =
      description:
      modules.mkOption {
        type = modules.types.bool;
        default = false;
        inherit description;
      };
    literalMD = text: { inherit text; };

    genAttrs =
      names: f:
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = f name;
        }) names
      );
    filterAttrs =
      keep: set:
      removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
    optionalAttrs = condition: set: if condition then set else { };
    optional = condition: value: if condition then [ value ] else [ ];
    optionalString = condition: text: if condition then text else "";
    last = list: builtins.elemAt list (builtins.length list - 1);
    # Decimal digits, none of which is a zero at the beginning.
    toInt =
      text:
      if builtins.match "0|[1-9][0-9]*" text != null then
        builtins.fromJSON text
      else
        throw "Could not convert ${text} to int.";
    imap1 = f: list: builtins.genList (n: f (n + 1) (builtins.elemAt list n)) (builtins.length list);
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then
        builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
      else
        text;
    getExe = package: lib.getExe' package package.meta.mainProgram;
    getExe' = package: name: "${package}/bin/${name}";

    licenses.mit.spdxId = "MIT";
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    fileset = {
      unions = map present;
      toSource = { root, fileset }: builtins.deepSeq fileset root;
    };

    # A machine, with the module that NixOS has for another harmonia.
    nixosSystem =
      {
        system,
        modules,
        pkgs ? packagesOf system,
      }:
      let
        evaluated = lib.evalModules {
          arguments = { inherit lib pkgs; };
          modules = [
            (import ./nixos.nix { inherit lib pkgs; })
            {
              key = "services/networking/harmonia.nix";
              options.services.harmonia.package = lib.mkOption {
                type = lib.types.package;
                default = pkgs.nix;
              };
              options.services.harmonia.cache.enable = lib.mkEnableOption "another harmonia";
            }
          ]
          ++ modules;
        };
        failed = builtins.filter (item: !item.assertion) evaluated.config.assertions;
      in
      {
        inherit (evaluated) config;
        # Everything of it, if its assertions hold.
        toplevel =
          if failed == [ ] then
            builtins.deepSeq evaluated.config (derivation {
              name = "nixos-system";
              builder = "/bin/false";
              inherit system;
            })
          else
            throw "Failed assertions:\n${builtins.concatStringsSep "\n" (map (item: "- ${item.message}") failed)}";
      };
  };
in
lib
