# The options of NixOS that the module and the tests define.
{ lib, pkgs }:
let
  inherit (lib) types;
  option = type: default: lib.mkOption { inherit type default; };
  strings = option (types.listOf types.str) [ ];
  scalar = types.oneOf [
    types.bool
    types.int
    types.str
  ];
  unit = options: option (types.attrsOf (types.submodule { inherit options; })) { };
  section = option (types.attrsOf (types.oneOf [ scalar (types.listOf scalar) ])) { };
in
{
  options = {
    assertions = option (types.listOf (types.submodule {
      options.assertion = lib.mkOption { type = types.bool; };
      options.message = lib.mkOption { type = types.str; };
    })) [ ];
    warnings = strings;
    environment.systemPackages = option (types.listOf types.package) [ ];
    networking.firewall.allowedTCPPorts = option (types.listOf (types.ints.between 0 65535)) [ ];
    nix.package = option types.package pkgs.nix;
    nix.settings = {
      allowed-users = option (types.listOf types.str) [ "*" ];
      extra-allowed-users = strings;
      experimental-features = strings;
      require-sigs = option types.bool true;
      substituters = option (types.listOf types.str) [ "https://cache.nixos.org/" ];
    };
    systemd.services = unit {
      description = option types.str "";
      requires = strings;
      requiredBy = strings;
      wants = strings;
      wantedBy = strings;
      before = strings;
      after = strings;
      startLimitIntervalSec = option (types.nullOr types.int) null;
      startLimitBurst = option (types.nullOr types.int) null;
      stopIfChanged = option types.bool true;
      environment = option (types.attrsOf (types.oneOf [ types.str types.package ])) { };
      path = option (types.listOf types.package) [ ];
      script = option types.str "";
      serviceConfig = section;
    };
    systemd.sockets = unit {
      description = option types.str "";
      wantedBy = strings;
      listenStreams = strings;
      socketConfig = section;
    };
    virtualisation.writableStore = option types.bool false;
    users.groups = unit { };
    users.users = unit {
      isSystemUser = option types.bool false;
      group = option types.str "";
      description = option types.str "";
    };
  };
}
