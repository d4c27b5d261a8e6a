# NixOS module: service and socket, equivalent to packaging/systemd (checked by vm-tests/module-eval.nix).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  package = config.services.harmonia.package;
  cfg = config.services.harmonia.cache;
  inherit (cfg) settings;

  toml = pkgs.formats.toml { };
  # TOML has no null.
  present =
    value:
    if builtins.isAttrs value then
      lib.mapAttrs (_: present) (lib.filterAttrs (_: one: one != null) value)
    else if builtins.isList value then
      map present value
    else
      value;
  # Without views there is no table of them.
  unchecked = toml.generate "harmonia.toml" (
    present (settings // { views = if settings.views == { } then null else settings.views; })
  );
  # A misspelt key fails the build of the configuration, not the start of the service.
  configFile =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "harmonia.toml" { file = unchecked; } ''
        ${lib.getExe package} check --syntax "$file"
        cp "$file" "$out"
      ''
    else
      unchecked;

  # In a unit a percent sign begins a specifier.
  escape = lib.replaceStrings [ "%" ] [ "%%" ];

  # `unix:/path` and `unix:///path`; null for what is neither.
  unixPath = builtins.match "unix:/*(/[^/].*)" settings.bind;
  # systemd resolves no names. The last group is the port.
  tcpAddress = builtins.match "(([0-9]+\\.){3}[0-9]+|\\[[0-9a-fA-F:.]+(%[0-9]+)?]):([1-9][0-9]{0,4})" settings.bind;

  access = if settings.access == null then { } else settings.access;
  jwt = access.jwt or [ ];
  bucketUrl = if settings.bucket == null then "" else settings.bucket.url;
  # A bucket on this machine is a directory.
  bucketDirectory = builtins.match "file://(/.+)" bucketUrl;
  # Objects are sent and keys of tokens fetched; everything else comes in by the sockets of systemd.
  needsNetwork = lib.hasPrefix "s3://" bucketUrl || lib.any (issuer: issuer.jwks_url != null) jwt;
  logs = "/var/log/harmonia/";
  logFiles = [
    (settings.access_log.file or null)
    (if settings.audit == null then null else settings.audit.file)
  ];
  inStore = path: path != null && lib.hasPrefix "${builtins.storeDir}/" (toString path);

  # Option paths of the modules in nixpkgs.
  old = [
    "services"
    "harmonia"
  ];
  ours = old ++ [ "cache" ];
  renamed =
    prefix: map (name: lib.mkRenamedOptionModule (prefix ++ [ name ]) (ours ++ [ name ]));
  singleKey =
    prefix:
    let
      from = prefix ++ [ "signKeyPath" ];
    in
    lib.mkChangedOptionModule from (ours ++ [ "signKeyPaths" ]) (
      config:
      let
        path = lib.getAttrFromPath from config;
      in
      lib.optional (path != null) path
    );

  unlessNull =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  rights = types.listOf (
    types.enum [
      "read"
      "push"
      "metrics"
    ]
  );
  size = types.oneOf [
    types.ints.unsigned
    types.str
  ];
  # A table of the configuration file: these options, and other keys as they are.
  table =
    options:
    types.submodule {
      freeformType = toml.type;
      inherit options;
    };
in
{
  # The module of this name that comes with NixOS declares the same options.
  disabledModules = [ "services/networking/harmonia.nix" ];

  # Configurations that were written for other modules evaluate, with a warning for each option.
  imports =
    renamed old [
      "enable"
      "signKeyPaths"
      "settings"
    ]
    ++ renamed [ "services" "harmonia-dev" "cache" ] [
      "enable"
      "signKeyPaths"
      "settings"
    ]
    ++ [
      (singleKey old)
      (singleKey ours)
      (lib.mkRenamedOptionModule [ "services" "harmonia-dev" "package" ] (old ++ [ "package" ]))
    ];

  options.services.harmonia = {
    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "harmonia, of the same source as this module";
      description = "Package that provides the harmonia program.";
    };

    cache = {
      enable = lib.mkEnableOption "harmonia, which serves the Nix store of this machine as a binary cache";

      signKeyPaths = mkOption {
        type = types.listOf types.path;
        default = [ ];
        example = [ "/var/lib/secrets/cache.secret" ];
        description = ''
          Files with secret keys; each key signs every narinfo. systemd reads them as root and passes copies to the
          service, so restart the service after a change.
        '';
      };

      bucketCredentialsPath = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/secrets/bucket";
        description = ''
          File with the access key of `settings.bucket`: the lines `AWS_ACCESS_KEY_ID=…` and `AWS_SECRET_ACCESS_KEY=…`.
          systemd reads it as root and passes a copy to the service, so restart the service after a change.
        '';
      };

      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = "Whether to open the port of `settings.bind` in the firewall.";
      };

      settings = mkOption {
        description = ''
          Contents of the configuration file. config.example.toml lists the keys; an unknown key fails the build of the
          system configuration. Keys set to null are omitted.
        '';
        default = { };
        example = {
          bind = "127.0.0.1:5000";
          priority = 50;
        };
        type = types.submodule {
          freeformType = toml.type;
          options = {
            bind = mkOption {
              type = types.str;
              default = "[::]:5000";
              example = "unix:/run/harmonia/http";
              description = ''
                Address of the socket unit: `ADDRESS:PORT`, `[IPV6-ADDRESS]:PORT` or `unix:/PATH`. NixOS does not restart a
                running socket: after a change, run `systemctl restart harmonia.socket`.
              '';
            };
            unix_socket_mode = mkOption {
              type = types.strMatching "0?[0-7]{3}";
              default = "0666";
              description = "Permissions of the Unix socket that `bind` names, in octal.";
            };
            shutdown_timeout = mkOption {
              type = types.ints.between 0 86400;
              default = 30;
              description = "Seconds that running downloads may take when the service stops.";
            };
            workers = unlessNull (types.ints.between 1 1024) "Threads that serve requests.";
            max_connections = unlessNull (types.ints.between 0 1000000) "Connections served at the same time, per worker; 0 for the default.";
            priority = unlessNull (types.ints.between 0 2147483647) "Priority in /nix-cache-info. Clients query the cache with the lowest number first.";
            browse = unlessNull types.bool "Whether /browse lists the valid paths by name.";
            enable_compression = unlessNull types.bool "Whether to compress NARs with zstd; true by default.";
            tls_cert_path = unlessNull types.str "TLS certificate with its chain (PEM), readable by the user harmonia.";
            tls_key_path = unlessNull types.str "Private key of the certificate (PEM), readable by the user harmonia.";

            access = unlessNull (table {
              anonymous = mkOption {
                type = rights;
                default = [ ];
                description = "What clients without credentials may do; nothing makes the cache private.";
              };
              users_file = unlessNull types.str ''
                File with names and passwords, which `harmonia user add` writes. It must be outside of the Nix store and
                readable by the user harmonia. `systemctl reload harmonia` reads it again.
              '';
              client_ca_path = unlessNull types.str "Certificates of the authorities that issue client certificates (PEM).";
              jwt = mkOption {
                type = types.listOf (table {
                  issuer = mkOption {
                    type = types.str;
                    description = "Value of the claim `iss` that a token has to have.";
                  };
                  audience = mkOption {
                    type = types.str;
                    description = "Value of the claim `aud` that a token has to have.";
                  };
                  jwks_path = unlessNull types.str "File with the public keys of the issuer.";
                  jwks_url = unlessNull types.str ''
                    URL to fetch the public keys of the issuer from. It gives the service access to the network.
                  '';
                  name = unlessNull types.str "Claim whose value names the client, or a text with claims in braces.";
                });
                default = [ ];
                description = "Issuers of JSON Web Tokens.";
              };
              grant = mkOption {
                type = types.listOf (table {
                  who = mkOption {
                    type = types.listOf types.str;
                    example = [
                      "user:alice"
                      "cert:builder1"
                      "jwt:acme/*"
                    ];
                    description = "Clients; `*` matches any characters.";
                  };
                  may = mkOption {
                    type = rights;
                    description = "Rights of these clients.";
                  };
                  view = unlessNull types.str "View that the right to read is limited to.";
                });
                default = [ ];
                description = "Rights of some clients.";
              };
            }) "Who may read, push, and read the metrics. Without it every client may read, and nobody may push.";
            views = mkOption {
              type = types.attrsOf (table {
                roots = mkOption {
                  type = types.listOf types.str;
                  example = [ "/nix/var/nix/profiles/team-a" ];
                  description = "The view is the closure of these roots.";
                };
              });
              default = { };
              description = "Parts of the store, which grants name.";
            };
            audit = unlessNull (table {
              file = unlessNull types.str ''
                File to append to, below ${logs}, where the service may write; the journal if null.
              '';
              on_failure = unlessNull (types.enum [
                "refuse"
                "warn"
              ]) "What happens if the log cannot be written: requests are refused, or an error is logged.";
            }) "Log of who read, was refused and pushed. Not written if null.";
            push = unlessNull (table {
              max_uploads = unlessNull (types.ints.between 1 1024) "Uploads received at the same time.";
              max_nar_size = unlessNull size "Size of an uncompressed NAR.";
              max_spool_size = unlessNull size "Size of all uploads that are not yet in the store.";
              max_spool_size_per_principal = unlessNull size "Size of those of one client.";
              keep = unlessNull types.str "Time for which a pushed path is protected from garbage collection, such as `30d`.";
              trusted_public_keys = mkOption {
                type = types.listOf types.str;
                default = [ ];
                description = ''
                  Keys one of which has to have signed a pushed path, in addition to what
                  `nix.settings.trusted-public-keys` demands.
                '';
              };
            }) "Uploads by `nix copy --to`, for clients with the right to push. `{ }` accepts them; null does not.";
            bucket = unlessNull (table {
              url = mkOption {
                type = types.strMatching "s3://.+|file:///.+";
                example = "s3://nix-cache";
                description = ''
                  Place of the objects. One at `s3://` gives the service access to the network; one at `file://` is a
                  directory that exists and in which the user harmonia may write.
                '';
              };
              endpoint = unlessNull types.str "URL of the server of the bucket; that of Amazon for the region if null.";
              region = unlessNull types.str "Region of the bucket.";
              allow_http = unlessNull types.bool "Whether `endpoint` may be a URL of http.";
              credentials_file = unlessNull types.str ''
                File with the access key that the user harmonia can read, and that is read again when it changes. For one
                that only root can read, use `services.harmonia.cache.bucketCredentialsPath`.
              '';
              host = unlessNull types.str "Name of this machine in the bucket; its host name if null.";
              publish = unlessNull (types.enum [
                "none"
                "served"
                "all"
              ]) "Paths to publish: what `harmonia bucket publish` is told, those whose narinfo was served, or all.";
              max_upload_rate = unlessNull size "Bytes per second of all uploads together.";
              read = unlessNull types.bool "Whether to serve paths that other machines have published; true by default.";
              redirect_from = unlessNull size "Size of NARs from which on clients are redirected to the bucket, or `never`.";
              public_url = unlessNull types.str "URL at which clients can read the objects without credentials.";
              unreachable = unlessNull (types.enum [
                "retry"
                "miss"
              ]) "Answer for paths of other machines while the bucket is unreachable.";
              trusted_public_keys = mkOption {
                type = types.listOf types.str;
                default = [ ];
                description = "Keys of the other machines, in addition to those of this one.";
              };
            }) "Object store that several machines share as one cache.";
          };
        };
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (settings.tls_cert_path == null) == (settings.tls_key_path == null);
        message = "services.harmonia.cache.settings: tls_cert_path and tls_key_path must be set together";
      }
      {
        assertion = !(settings ? sign_key_path || settings ? sign_key_paths);
        message = ''
          services.harmonia.cache.settings: the service cannot read the files of sign_key_path and sign_key_paths;
          name them in services.harmonia.cache.signKeyPaths
        '';
      }
      {
        assertion = !lib.any inStore cfg.signKeyPaths;
        message = ''
          services.harmonia.cache.signKeyPaths: a file in the Nix store is not secret, this cache would serve it;
          write the path outside the store as a string
        '';
      }
      {
        assertion = !inStore (access.users_file or null);
        message = ''
          services.harmonia.cache.settings.access.users_file: a file in the Nix store is not secret, this cache would
          serve it; write the path outside the store as a string
        '';
      }
      {
        assertion =
          !inStore cfg.bucketCredentialsPath
          && !inStore (if settings.bucket == null then null else settings.bucket.credentials_file);
        message = ''
          services.harmonia.cache.bucketCredentialsPath: a file in the Nix store is not secret, this cache would serve
          it; write the path outside the store as a string
        '';
      }
      {
        assertion = cfg.bucketCredentialsPath == null || settings.bucket != null;
        message = ''
          services.harmonia.cache.bucketCredentialsPath: there is no settings.bucket that it would be for
        '';
      }
      {
        assertion = lib.all (path: path == null || lib.hasPrefix logs path) logFiles;
        message = ''
          services.harmonia.cache.settings: the service may write logs below ${logs} only; set access_log.file and
          audit.file to a file there
        '';
      }
      {
        assertion = unixPath != null || tcpAddress != null;
        message = ''
          services.harmonia.cache.settings.bind: "${settings.bind}" is not ADDRESS:PORT, [IPV6-ADDRESS]:PORT or
          unix:/PATH; systemd listens and takes no host names
        '';
      }
      {
        assertion = !cfg.openFirewall || unixPath == null;
        message = ''
          services.harmonia.cache.openFirewall: settings.bind is a Unix socket, which has no port to open
        '';
      }
    ];

    networking.firewall.allowedTCPPorts = lib.optional (cfg.openFirewall && tcpAddress != null) (
      lib.toInt (lib.last tcpAddress)
    );

    # For `harmonia user`, `pin`, `hide` and `status`.
    environment.systemPackages = [ package ];

    # Static, not DynamicUser: nix-daemon looks the name up for allowed-users.
    users.users.harmonia = {
      isSystemUser = true;
      group = "harmonia";
      description = "Nix binary cache";
    };
    users.groups.harmonia = { };
    nix.settings.extra-allowed-users = [ "harmonia" ];

    systemd.sockets.harmonia = {
      description = "Sockets of the Nix binary cache harmonia";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ (escape (if unixPath == null then settings.bind else lib.head unixPath)) ];
      socketConfig = {
        Backlog = 4096;
        # A service that cannot start is tried six times, then connections are refused instead of hanging.
        TriggerLimitIntervalSec = 10;
        TriggerLimitBurst = 6;
      }
      // (
        if unixPath != null then
          { SocketMode = settings.unix_socket_mode; }
        else
          {
            BindIPv6Only = "both";
            # Allows an address that is not up yet at boot.
            FreeBind = true;
            NoDelay = true;
          }
      );
    };

    systemd.services.harmonia = {
      description = "Nix binary cache harmonia";
      requires = [ "harmonia.socket" ];
      wants = [ "nix-daemon.socket" ];
      after = [
        "harmonia.socket"
        "nix-daemon.socket"
        "network.target"
      ];
      # The first request would start it too; this way, errors show when a configuration is activated.
      wantedBy = [ "multi-user.target" ];
      # A service that dies within two seconds of each start, for two minutes, fails, and its socket with it.
      startLimitIntervalSec = 240;
      startLimitBurst = 60;
      # Restart in one step, so that connections wait in the socket.
      stopIfChanged = false;
      environment.CONFIG_FILE = configFile;

      serviceConfig = {
        Type = "notify";
        ExecStart = lib.getExe package;
        # Configuration, certificate and keys are read again.
        ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
        LoadCredential =
          lib.imap1 (n: path: "sign-key-${toString n}:${escape (toString path)}") cfg.signKeyPaths
          ++ lib.optional (
            cfg.bucketCredentialsPath != null
          ) "bucket-credentials:${escape (toString cfg.bucketCredentialsPath)}";
        Restart = "on-failure";
        RestartSec = 2;
        # Failures that a second attempt does not fix; the trigger limit of the socket then applies.
        RestartPreventExitStatus = "2 78 EXEC GROUP USER CREDENTIALS";
        WatchdogSec = 30;
        TimeoutStopSec = settings.shutdown_timeout + 30;

        User = "harmonia";
        Group = "harmonia";
        UMask = "0077";
        NoNewPrivileges = true;
        CapabilityBoundingSet = "";
        AmbientCapabilities = "";

        # File system access: the store (read-only), nix-daemon's socket and the configuration.
        ProtectSystem = "strict";
        ProtectHome = true;
        InaccessiblePaths = [
          "-/nix/var/nix/db"
          "-/nix/var/nix/profiles/per-user"
        ];
        PrivateTmp = true;
        PrivateDevices = true;
        PrivateMounts = true;
        PrivateUsers = true;
        DevicePolicy = "closed";
        ProtectProc = "invisible";
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        RemoveIPC = true;
        KeyringMode = "private";

        CacheDirectory = "harmonia";
        CacheDirectoryMode = "0700";
        StateDirectory = "harmonia";
        StateDirectoryMode = "0700";

        # For `harmonia status`; other files in /run/harmonia remain when the service stops.
        RuntimeDirectory = "harmonia/admin";
        RuntimeDirectoryMode = "0700";

        # Network access: the sockets of nix-daemon and systemd only, unless there is a bucket or keys of tokens are fetched.
        # Access lists belong in the socket unit.
        PrivateNetwork = !needsNetwork;
        RestrictAddressFamilies = if needsNetwork then "AF_UNIX AF_INET AF_INET6" else "AF_UNIX";
        IPAddressDeny = if needsNetwork then [ ] else "any";
        SocketBindDeny = "any";

        # System calls.
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
          # Lowers the priority of encoder threads.
          "setpriority"
        ];
        SystemCallErrorNumber = "EPERM";
        MemoryDenyWriteExecute = true;
        LockPersonality = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;

        # Resource limits: builds on the same machine take precedence.
        LimitNOFILE = 65536;
        LimitCORE = 0;
        TasksMax = 256;
        MemoryHigh = "1G";
        MemoryMax = "2G";
        OOMPolicy = "continue";
        OOMScoreAdjust = 200;
        CPUWeight = 50;
        IOWeight = 50;
      }
      // lib.optionalAttrs (lib.any (path: path != null) logFiles) {
        LogsDirectory = "harmonia";
        LogsDirectoryMode = "0750";
      }
      // lib.optionalAttrs (bucketDirectory != null) {
        ReadWritePaths = map escape bucketDirectory;
      };
    };
  };
}
