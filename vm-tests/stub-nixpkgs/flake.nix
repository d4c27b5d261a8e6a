# What our flake, module and tests use of nixpkgs, and nothing else of it: enough to evaluate them where nixpkgs cannot
# be had. It builds nothing. Functions take exactly the arguments named here, so that a misspelt one is an error.
{
  description = "stand-in for nixpkgs, to evaluate with";

  outputs =
    { self }:
    let
      lib = import ./lib.nix { inherit packagesOf present; };
      present = path: if builtins.pathExists path then path else throw "${toString path} does not exist";
      derivation =
        system: name: attributes:
        builtins.derivation { inherit name system; builder = "/bin/false"; } // attributes;
      packagesOf =
        system:
        let
          tool = name: derivation system name { };
          rustPlatform.buildRustPackage =
            { pname, version, src, cargoLock, cargoTestFlags, nativeBuildInputs, postInstall, meta }:
            builtins.deepSeq [ (present src) (present cargoLock.lockFile) cargoTestFlags meta ] (
              derivation system "${pname}-${version}" { inherit pname version meta nativeBuildInputs postInstall; }
            );
          installShellFiles = tool "install-shell-files";
          stdenv = {
            buildPlatform.canExecute = platform: platform == stdenv.hostPlatform;
            hostPlatform.rust.rustcTarget = builtins.replaceStrings [ "-" ] [ "-unknown-" ] "${system}-gnu";
          };
          callPackage =
            f: overrides:
            let
              called = if builtins.isPath f then import f else f;
              available = { inherit installShellFiles lib rustPlatform stdenv; } // overrides;
            in
            called (builtins.intersectAttrs (builtins.functionArgs called) available);
        in
        {
          inherit callPackage stdenv;
          runCommand = name: environment: buildCommand: derivation system name (environment // { inherit buildCommand; });
          mkShell =
            { inputsFrom, packages }:
            builtins.seq (map (input: input.drvPath) (inputsFrom ++ packages)) (tool "shell");

          formats.toml =
            { }:
            let
              inherit (lib) types;
              value = types.oneOf (
                [ types.bool types.int types.str types.path ] ++ [ (types.listOf value) (types.attrsOf value) ]
              )
              // { description = "TOML value"; };
            in
            {
              type = types.attrsOf value;
              # What would be written, to look at.
              generate = name: settings: derivation system name { inherit settings; };
            };

          # The machines of a test, each as far as nixosSystem goes.
          testers.runNixOSTest =
            file:
            let
              test = { name, nodes, testScript }: { inherit name nodes testScript; };
              given = test (import file { inherit lib; });
              machine = name: module: (lib.nixosSystem { inherit system; modules = [ module ]; }).toplevel.drvPath;
            in
            builtins.deepSeq [ (builtins.mapAttrs machine given.nodes) given.testScript ] (
              derivation system "vm-test-run-${given.name}" { }
            );
        }
        // lib.genAttrs [ "cargo-deny" "clippy" "coreutils" "curl" "nix" "rustfmt" ] tool;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs lib.platforms.linux packagesOf;
    };
}
