{
  description = "Nix binary cache that learns everything from nix-daemon";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forAllSystems = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = system: nixpkgs.legacyPackages.${system};
      manifest = builtins.fromTOML (builtins.readFile ./Cargo.toml);

      package =
        { lib, rustPlatform }:
        rustPlatform.buildRustPackage {
          pname = manifest.package.name;
          inherit (manifest.workspace.package) version;
          # What the build and its tests read: an edit of anything else rebuilds nothing.
          src = lib.fileset.toSource {
            root = ./.;
            fileset = lib.fileset.unions [
              ./Cargo.toml
              ./Cargo.lock
              ./.clippy.toml
              ./.rustfmt.toml
              ./README.md
              ./config.example.toml
              ./protocol
              ./src
              ./tests
            ];
          };
          cargoLock.lockFile = ./Cargo.lock;
          # The integration tests run Debian's packages of Nix in mount namespaces, which a build sandbox has not.
          cargoTestFlags = [
            "--workspace"
            "--lib"
            "--bins"
          ];
          meta = {
            inherit (manifest.package) description;
            license = lib.licenses.mit;
            mainProgram = "harmonia";
            platforms = lib.platforms.linux;
          };
        };
    in
    {
      packages = forAllSystems (system: rec {
        harmonia = (pkgsFor system).callPackage package { };
        default = harmonia;
      });

      devShells = forAllSystems (
        system:
        let
          pkgs = pkgsFor system;
        in
        {
          default = pkgs.mkShell {
            inputsFrom = [ self.packages.${system}.default ];
            packages = [
              pkgs.cargo-deny
              pkgs.clippy
              pkgs.rustfmt
            ];
          };
        }
      );

      # The package's own check phase runs the unit tests.
      checks = forAllSystems (system: {
        package = self.packages.${system}.default;
      });
    };
}
