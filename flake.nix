{
  description = "Nix binary cache that learns everything from nix-daemon";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      forAllSystems = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = system: nixpkgs.legacyPackages.${system};
    in
    {
      packages = forAllSystems (system: rec {
        harmonia = (pkgsFor system).callPackage ./nix/package.nix { };
        default = harmonia;
      });

      overlays.default = final: prev: { harmonia = final.callPackage ./nix/package.nix { }; };

      # Imported here, for Nix 2.8 takes no bare path.
      nixosModules = rec {
        harmonia = import ./nix/module.nix;
        default = harmonia;
      };

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

      checks = forAllSystems (system: {
        # The package's own check phase runs the unit tests.
        package = self.packages.${system}.default;
        nixos = (pkgsFor system).testers.runNixOSTest ./vm-tests/nixos-test.nix;
      });
    };
}
