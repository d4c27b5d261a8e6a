# What our flake uses of nixpkgs, and nothing else of it: enough to evaluate the flake where nixpkgs cannot be had. It
# builds nothing. Functions take exactly the arguments named here, so that a misspelt one is an error.
{
  description = "stand-in for nixpkgs, to evaluate with";

  outputs =
    { self }:
    let
      present = path: if builtins.pathExists path then path else throw "${toString path} does not exist";
      lib = {
        genAttrs =
          names: f:
          builtins.listToAttrs (
            map (name: {
              inherit name;
              value = f name;
            }) names
          );
        licenses.mit.spdxId = "MIT";
        platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
        fileset = {
          unions = map present;
          toSource = { root, fileset }: builtins.deepSeq fileset root;
        };
      };
      derivation =
        system: name: attributes:
        builtins.derivation { inherit name system; builder = "/bin/false"; } // attributes;
      packagesOf =
        system:
        let
          tool = name: derivation system name { };
          rustPlatform.buildRustPackage =
            { pname, version, src, cargoLock, cargoTestFlags, meta }:
            builtins.deepSeq [ (present src) (present cargoLock.lockFile) cargoTestFlags meta ] (
              derivation system "${pname}-${version}" { inherit pname version meta; }
            );
        in
        {
          callPackage = f: overrides: f ({ inherit lib rustPlatform; } // overrides);
          mkShell =
            { inputsFrom, packages }:
            builtins.seq (map (input: input.drvPath) (inputsFrom ++ packages)) (tool "shell");
        }
        // lib.genAttrs [ "cargo-deny" "clippy" "rustfmt" ] tool;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs lib.platforms.linux packagesOf;
    };
}
