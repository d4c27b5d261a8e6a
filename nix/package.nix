# The program, as a function for callPackage.
{
  lib,
  installShellFiles,
  rustPlatform,
  stdenv,
}:
let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.workspace.package) version;
  # What the build and its tests read: an edit of anything else rebuilds nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../.clippy.toml
      ../.rustfmt.toml
      ../config.example.toml
      ../docs/reference/configuration.md
      ../protocol
      ../src
      ../tests
      ../xtask
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  # The integration tests run Debian's packages of Nix in mount namespaces, which a build sandbox has not.
  cargoTestFlags = [
    "--workspace"
    "--lib"
    "--bins"
  ];
  nativeBuildInputs = [ installShellFiles ];
  # By this name harmonia 3.2 is started, by modules and scripts that may be kept. The manual is written by a program,
  # which a cross build cannot run.
  postInstall = ''
    ln -s harmonia $out/bin/harmonia-cache
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    cargo run --offline --release --target ${stdenv.hostPlatform.rust.rustcTarget} --package xtask -- manual manual
    installManPage manual/*.[1-9]
    installShellCompletion manual/harmonia.bash manual/_harmonia manual/harmonia.fish
  '';
  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    mainProgram = "harmonia";
    platforms = lib.platforms.linux;
  };
}
