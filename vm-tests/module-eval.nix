# Tests of the NixOS module: true, or an error that names the failed test.
#
#   nix-instantiate --eval --strict --argstr system x86_64-linux vm-tests/module-eval.nix
#
# The units are compared with those of packaging/systemd, line by line.
{
  nixpkgs ? (import ./stub-nixpkgs/flake.nix).outputs { self = null; },
  system,
}:
let
  inherit (nixpkgs) lib;
  inherit (builtins) filter isString match;

  machineOf =
    services:
    lib.nixosSystem {
      inherit system;
      modules = [
        (import ../nix/module.nix)
        { inherit services; }
      ];
    };
  machine = harmonia: machineOf { inherit harmonia; };
  enabled = cache: machine { cache = cache // { enable = true; }; };
  serviceOf = cache: (enabled cache).config.systemd.services.harmonia;
  socketOf = cache: (enabled cache).config.systemd.sockets.harmonia;
  configOf = cache: (serviceOf cache).environment.CONFIG_FILE.file.settings;
  portsOf = cache: (enabled cache).config.networking.firewall.allowedTCPPorts;

  # Whether a configuration can be evaluated completely, assertions included.
  evaluates = machine: (builtins.tryEval (builtins.seq machine.toplevel.drvPath true)).success;
  taken = harmonia: evaluates (machine harmonia);
  settingsTaken = settings: taken { cache = { enable = true; inherit settings; }; };
  messagesOf =
    cache:
    map (item: item.message) (filter (item: !item.assertion) (enabled cache).config.assertions);
  # Whether exactly one assertion fails, with this text.
  refusedFor =
    text: cache:
    let
      messages = messagesOf cache;
    in
    builtins.length messages == 1 && match "(.|\n)*${text}(.|\n)*" (builtins.head messages) != null;

  # Parses a unit file: the words that each key of a section is set to, over all its lines.
  words = text: filter (word: isString word && word != "") (builtins.split "[ \t]+" text);
  written =
    file: section:
    let
      lines = filter isString (builtins.split "\n" (builtins.readFile file));
      read =
        state: line:
        let
          header = match "\\[(.*)]" line;
          entry = match "([A-Za-z0-9]+)=(.*)" line;
        in
        if header != null then
          state // { here = builtins.head header == section; }
        else if entry != null && state.here then
          let
            key = builtins.head entry;
          in
          state
          // {
            found = state.found // {
              ${key} = state.found.${key} or [ ] ++ words (builtins.elemAt entry 1);
            };
          }
        else
          state;
    in
    (builtins.foldl' read { here = false; found = { }; } lines).found;
  # Converts an evaluated section to that form.
  evaluated = builtins.mapAttrs (
    key: value:
    let
      text = one: if builtins.isBool one then (if one then "yes" else "no") else toString one;
    in
    builtins.concatMap (one: words (text one)) (if builtins.isList value then value else [ value ])
  );

  service = ../packaging/systemd/harmonia.service;
  socket = ../packaging/systemd/harmonia.socket;
  plain = serviceOf { };
  plainSocket = socketOf { };
  programs = [
    "ExecStart"
    "ExecReload"
  ];
  withKeys = {
    signKeyPaths = [
      "/run/keys/one"
      "/run/keys/100%"
    ];
  };
  off = machine { };

  statements = {
    "a machine with the service evaluates" = taken { cache.enable = true; };
    "without enable there is nothing" =
      off.config.systemd.services == { }
      && off.config.systemd.sockets == { }
      && off.config.users.users == { }
      && off.config.nix.settings.extra-allowed-users == [ ];

    "the service is that of packaging/systemd" =
      evaluated (removeAttrs plain.serviceConfig (programs ++ [ "LoadCredential" ]))
      == removeAttrs (written service "Service") programs;
    "its dependencies are that of packaging/systemd" =
      {
        Requires = plain.requires;
        Wants = plain.wants;
        After = plain.after;
        StartLimitIntervalSec = [ (toString plain.startLimitIntervalSec) ];
        StartLimitBurst = [ (toString plain.startLimitBurst) ];
      } == removeAttrs (written service "Unit") [ "Description" "Documentation" ];
    "the socket is that of packaging/systemd" =
      evaluated (plainSocket.socketConfig // { ListenStream = plainSocket.listenStreams; })
      == written socket "Socket";
    "both start at boot as those of packaging/systemd" =
      plain.wantedBy == (written service "Install").WantedBy
      && plainSocket.wantedBy == (written socket "Install").WantedBy;
    "the program is that of the package" =
      match ".*-harmonia-[0-9.]+/bin/harmonia" plain.serviceConfig.ExecStart != null;
    "another package is run" =
      let
        other = derivation { name = "other"; builder = "/bin/false"; inherit system; } // { meta.mainProgram = "it"; };
        chosen = machine { package = other; cache.enable = true; };
      in
      chosen.config.systemd.services.harmonia.serviceConfig.ExecStart == "${other}/bin/it";
    "a reload is SIGHUP" = match "/.*/bin/kill -HUP \\$MAINPID" plain.serviceConfig.ExecReload != null;
    "a restart leaves the socket" = !plain.stopIfChanged;

    "the user is static and let in" =
      let
        inherit (enabled { }) config;
      in
      config.users.users.harmonia.isSystemUser
      && config.users.groups ? ${config.users.users.harmonia.group}
      && config.nix.settings.extra-allowed-users == [ "harmonia" ];

    "without keys there are no credentials" = plain.serviceConfig.LoadCredential == [ ];
    "each key is a credential" =
      (serviceOf withKeys).serviceConfig.LoadCredential == [
        "sign-key-1:/run/keys/one"
        "sign-key-2:/run/keys/100%%"
      ];
    "a key in the store is refused" = refusedFor "signKeyPaths" {
      signKeyPaths = [ "${builtins.storeDir}/0123-secret" ];
    };
    "a key of the settings is refused" =
      refusedFor "sign_key_paths" { settings.sign_key_paths = [ "/run/keys/one" ]; }
      && refusedFor "sign_key_paths" { settings.sign_key_path = "/run/keys/one"; };
    "a relative key is refused" = !taken { cache = { enable = true; signKeyPaths = [ "secret" ]; }; };

    "the file has what is set, and no null" =
      configOf {
        settings = {
          priority = 50;
          zstd.level = 7;
          daemon_command = [ "nix-daemon" "--stdio" ];
        };
      } == {
        bind = "[::]:5000";
        unix_socket_mode = "0666";
        shutdown_timeout = 30;
        priority = 50;
        zstd.level = 7;
        daemon_command = [ "nix-daemon" "--stdio" ];
      };
    "a misspelt key fails the build" =
      let
        file = (serviceOf { settings.wokers = 4; }).environment.CONFIG_FILE;
      in
      file.file.settings.wokers == 4
      && match ".*/bin/harmonia check --syntax \"\\$file\"\n.*" file.buildCommand != null;
    "a cross build does not run the program" =
      let
        pkgs = nixpkgs.legacyPackages.${system} // {
          stdenv = {
            buildPlatform.canExecute = _: false;
            hostPlatform = { };
          };
        };
        crossed = lib.nixosSystem {
          inherit system pkgs;
          modules = [
            (import ../nix/module.nix)
            {
              services.harmonia.package = pkgs.nix // { meta.mainProgram = "harmonia"; };
              services.harmonia.cache.enable = true;
            }
          ];
        };
      in
      crossed.config.systemd.services.harmonia.environment.CONFIG_FILE ? settings;
    "manual and completions are in the package" =
      let
        steps = off.config.services.harmonia.package.postInstall;
      in
      builtins.all (step: match "(.|\n)*${step}(.|\n)*" steps != null) [
        "--package xtask -- manual"
        "installManPage manual/"
        "installShellCompletion manual/harmonia.bash manual/_harmonia manual/harmonia.fish"
      ];
    "time to stop follows the downloads" =
      (serviceOf { settings.shutdown_timeout = 300; }).serviceConfig.TimeoutStopSec == 330;

    "the socket listens where bind says" =
      map (bind: (socketOf { settings = { inherit bind; }; }).listenStreams) [
        "127.0.0.1:80"
        "[fe80::1%2]:80"
        "unix:/run/harmonia/http"
        "unix:///run/harmonia/http"
      ] == [
        [ "127.0.0.1:80" ]
        [ "[fe80::1%%2]:80" ]
        [ "/run/harmonia/http" ]
        [ "/run/harmonia/http" ]
      ];
    "a Unix socket has its mode and nothing of TCP" =
      (socketOf { settings = { bind = "unix:/run/http"; unix_socket_mode = "0660"; }; }).socketConfig == {
        Backlog = 4096;
        TriggerLimitIntervalSec = 10;
        TriggerLimitBurst = 6;
        SocketMode = "0660";
      };
    "what systemd cannot listen on is refused" =
      builtins.all (bind: refusedFor "systemd listens" { settings = { inherit bind; }; }) [
        "localhost:5000"
        "5000"
        "::1:5000"
        "unix:relative"
        "unix:"
        "unix:///"
        "[::]:port"
        "[::]:0"
      ];

    "the firewall is left alone unless it is to be opened" =
      portsOf { } == [ ]
      && portsOf { openFirewall = true; } == [ 5000 ]
      && portsOf { openFirewall = true; settings.bind = "0.0.0.0:80"; } == [ 80 ];
    "there is no port of a Unix socket to open" = refusedFor "openFirewall" {
      openFirewall = true;
      settings.bind = "unix:/run/http";
    };

    "what other modules of this name take is taken, with a warning for each option" =
      let
        keys = [ "/run/keys/one" ];
        same = map machineOf [
          { harmonia.cache = { enable = true; signKeyPaths = keys; settings.priority = 50; }; }
          { harmonia = { enable = true; signKeyPaths = keys; settings.priority = 50; }; }
          { harmonia = { enable = true; signKeyPath = "/run/keys/one"; settings.priority = 50; }; }
          { harmonia.cache = { enable = true; signKeyPath = "/run/keys/one"; settings.priority = 50; }; }
          { harmonia-dev.cache = { enable = true; signKeyPaths = keys; settings.priority = 50; }; }
        ];
        cacheOf = machine: removeAttrs machine.config.services.harmonia.cache [ "signKeyPath" ];
        unitsOf = machine: machine.config.systemd;
        first = lib.head same;
      in
      builtins.all evaluates same
      && builtins.all (other: cacheOf other == cacheOf first && unitsOf other == unitsOf first) same
      && map (one: builtins.length one.config.warnings) same == [ 0 3 3 1 3 ]
      && match ".*services.harmonia.signKeyPath' has been changed to `services.harmonia.cache.signKeyPaths'.*" (
        builtins.concatStringsSep " " (builtins.elemAt same 2).config.warnings
      ) != null;
    "keys by old and new names are all used" =
      builtins.sort builtins.lessThan (enabled {
        signKeyPath = "/run/keys/one";
        signKeyPaths = [ "/run/keys/two" ];
      }).config.services.harmonia.cache.signKeyPaths == [
        "/run/keys/one"
        "/run/keys/two"
      ];
    "no key is no key by the old name either" =
      taken { enable = true; signKeyPath = null; }
      && (serviceOf { signKeyPath = null; }).serviceConfig.LoadCredential == [ ];
    "the old name reads the new option" = off.config.services.harmonia.enable == false && (enabled { }).config.services.harmonia.enable;

    "certificate and key need each other" =
      refusedFor "tls_key_path" { settings.tls_cert_path = "/run/cert"; }
      && refusedFor "tls_cert_path" { settings.tls_key_path = "/run/key"; }
      && settingsTaken { tls_cert_path = "/run/cert"; tls_key_path = "/run/key"; };

    "tables of who may do what are written without null" =
      configOf {
        settings = {
          access = {
            users_file = "/var/lib/secrets/users";
            jwt = [
              {
                issuer = "https://token.actions.githubusercontent.com";
                audience = "https://cache.example.org";
                jwks_path = "/var/lib/github.jwks";
              }
            ];
            grant = [ { who = [ "user:*" ]; may = [ "read" ]; view = "team-a"; } ];
          };
          views.team-a.roots = [ "/nix/var/nix/profiles/team-a" ];
          audit = { };
          push.keep = "7d";
          bucket = { url = "s3://nix-cache"; publish = "served"; redirect_from = "never"; };
        };
      } == {
        bind = "[::]:5000";
        unix_socket_mode = "0666";
        shutdown_timeout = 30;
        access = {
          anonymous = [ ];
          users_file = "/var/lib/secrets/users";
          jwt = [
            {
              issuer = "https://token.actions.githubusercontent.com";
              audience = "https://cache.example.org";
              jwks_path = "/var/lib/github.jwks";
            }
          ];
          grant = [ { who = [ "user:*" ]; may = [ "read" ]; view = "team-a"; } ];
        };
        views.team-a.roots = [ "/nix/var/nix/profiles/team-a" ];
        audit = { };
        push = { keep = "7d"; trusted_public_keys = [ ]; };
        bucket = { url = "s3://nix-cache"; publish = "served"; redirect_from = "never"; trusted_public_keys = [ ]; };
      };
    "a users file in the store is refused" = refusedFor "users_file" {
      settings.access.users_file = "${builtins.storeDir}/0123-users";
    };
    "the service has a network only if it fetches keys of tokens or has a bucket elsewhere" =
      let
        networkOf =
          settings:
          evaluated {
            inherit ((serviceOf { inherit settings; }).serviceConfig) PrivateNetwork RestrictAddressFamilies IPAddressDeny;
          };
        jwt = keys: { access.jwt = [ ({ issuer = "i"; audience = "a"; } // keys) ]; };
        closed = {
          PrivateNetwork = [ "yes" ];
          RestrictAddressFamilies = [ "AF_UNIX" ];
          IPAddressDeny = [ "any" ];
        };
        open = {
          PrivateNetwork = [ "no" ];
          RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" ];
          IPAddressDeny = [ ];
        };
      in
      networkOf (jwt { jwks_path = "/var/lib/jwks"; }) == closed
      && networkOf (jwt { jwks_url = "https://example.org/jwks"; }) == open
      && networkOf { bucket.url = "file:///srv/cache"; } == closed
      && networkOf { bucket.url = "s3://nix-cache"; } == open;
    "the access key of the bucket is a credential" =
      (serviceOf {
        signKeyPaths = [ "/run/keys/one" ];
        bucketCredentialsPath = "/run/keys/100%";
        settings.bucket.url = "s3://nix-cache";
      }).serviceConfig.LoadCredential == [
        "sign-key-1:/run/keys/one"
        "bucket-credentials:/run/keys/100%%"
      ]
      && refusedFor "bucketCredentialsPath" { bucketCredentialsPath = "/run/keys/bucket"; };
    "an access key in the store is refused" =
      let
        secret = "${builtins.storeDir}/0123-secret";
        refused = refusedFor "bucketCredentialsPath: a file in the Nix store";
      in
      refused { bucketCredentialsPath = secret; settings.bucket.url = "s3://nix-cache"; }
      && refused { settings.bucket = { url = "s3://nix-cache"; credentials_file = secret; }; };
    "the service may write into a bucket that is a directory" =
      (serviceOf { settings.bucket.url = "file:///srv/100%"; }).serviceConfig.ReadWritePaths == [ "/srv/100%%" ]
      && !((serviceOf { settings.bucket.url = "s3://nix-cache"; }).serviceConfig ? ReadWritePaths)
      && !(plain.serviceConfig ? ReadWritePaths);
    "the service may write where its logs are" =
      (serviceOf { settings.audit.file = "/var/log/harmonia/audit.log"; }).serviceConfig.LogsDirectory == "harmonia"
      && (serviceOf { settings.access_log.file = "/var/log/harmonia/access.log"; }).serviceConfig.LogsDirectory == "harmonia"
      && refusedFor "may write logs" { settings.audit.file = "/var/log/audit.log"; };
    "the commands are there" = builtins.length (enabled { }).config.environment.systemPackages == 1;

    "unknown options are refused" =
      !taken { enabled = true; }
      && !taken { cache.enabled = true; }
      && !taken { cache = { enable = true; signKeyPathes = [ "/run/keys/one" ]; }; };
    "values of a wrong type are refused" =
      !taken { cache.enable = "yes"; }
      && !taken { cache = { enable = true; signKeyPaths = "/run/keys/one"; }; }
      && !taken { package = "harmonia"; cache.enable = true; }
      && !builtins.any settingsTaken [
        { bind = 5000; }
        { workers = 0; }
        { workers = "4"; }
        { priority = -1; }
        { max_connections = 1.5; }
        { enable_compression = "true"; }
        { unix_socket_mode = "rw"; }
        { unix_socket_mode = 438; }
        { shutdown_timeout = 86401; }
        { tls_cert_path = /cert; tls_key_path = "/run/key"; }
        { zstd.level = x: x; }
        { other = x: x; }
        { access.anonymous = "read"; }
        { access.anonymous = [ "write" ]; }
        { access.users_file = /users; }
        { access.grant = [ { who = "user:alice"; may = [ "read" ]; } ]; }
        { access.grant = [ { who = [ "user:alice" ]; } ]; }
        { access.jwt = [ { issuer = "i"; } ]; }
        { views.team-a.roots = "/nix/var/nix/profiles/team-a"; }
        { audit.on_failure = "ignore"; }
        { push.max_uploads = 0; }
        { push.keep = 30; }
        { bucket = { }; }
        { bucket.url = "https://example.org"; }
        { bucket = { url = "s3://nix-cache"; publish = "some"; }; }
        { bucket = { url = "s3://nix-cache"; unreachable = "fail"; }; }
        { bucket = { url = "s3://nix-cache"; credentials_file = /secret; }; }
      ];
  };
  unmet = filter (statement: !statements.${statement}) (builtins.attrNames statements);
in
if unmet == [ ] then
  true
else
  throw "does not hold: ${builtins.concatStringsSep "; " unmet}"
