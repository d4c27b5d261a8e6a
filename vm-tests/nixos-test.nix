# Two NixOS machines: one serves its store, the other copies from it with signatures required. `nix flake check` runs
# it.
{ lib, ... }:
{
  name = "harmonia";

  nodes.cache =
    { config, ... }:
    {
      imports = [ ../nix/module.nix ];
      services.harmonia.cache = {
        enable = true;
        signKeyPaths = [ "/var/lib/cache-key/secret" ];
        openFirewall = true;
      };
      virtualisation.writableStore = true;
      nix.settings = {
        # The module creates its user.
        allowed-users = [ "root" ];
        substituters = lib.mkForce [ ];
      };
      systemd.services.cache-key = {
        description = "Key of this cache";
        requiredBy = [ "harmonia.service" ];
        before = [ "harmonia.service" ];
        path = [ config.nix.package ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          StateDirectory = "cache-key";
          StateDirectoryMode = "0700";
        };
        script = ''
          cd /var/lib/cache-key
          test -e secret || nix-store --generate-binary-cache-key cache-1 secret public
        '';
      };
    };

  nodes.client =
    { pkgs, ... }:
    {
      environment.systemPackages = [ pkgs.curl ];
      virtualisation.writableStore = true;
      nix.settings = {
        experimental-features = [ "nix-command" ];
        require-sigs = true;
        substituters = lib.mkForce [ ];
      };
    };

  testScript = ''
    start_all()
    cache.wait_for_unit("harmonia.service")
    client.wait_for_unit("multi-user.target")
    client.wait_until_succeeds("curl --fail --silent http://cache:5000/ready", timeout=60)

    with subtest("the service runs as its user, which cannot read the database"):
        pid = cache.succeed("systemctl show --value --property MainPID harmonia.service").strip()
        user = cache.succeed(f"stat --format %U /proc/{pid}").strip()
        assert user == "harmonia", user
        cache.succeed("chmod 700 /nix/var/nix/db")
        cache.fail(f"nsenter --target {pid} --mount test -e /nix/var/nix/db/db.sqlite")

    # Built, not added: content-addressed paths need no signature.
    path = cache.succeed(
        "nix-build --no-out-link --option sandbox false --expr 'derivation {"
        ' name = "served"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo served >$out" ];'
        " }'"
    ).strip()
    key = cache.succeed("cat /var/lib/cache-key/public").strip()
    copy = f"nix copy --from http://cache:5000 {path}"

    with subtest("a client that does not trust the key refuses the path"):
        client.fail(copy)
        client.fail(f"test -e {path}")

    with subtest("a client that trusts the key copies the path"):
        client.succeed(f"{copy} --option trusted-public-keys '{key}'")
        text = client.succeed(f"cat {path}").strip()
        assert text == "served", text

    with subtest("a crash loses no connection"):
        cache.succeed("systemctl kill --signal KILL harmonia.service")
        client.succeed("curl --fail --silent --max-time 30 http://cache:5000/nix-cache-info")

    with subtest("a reload does not stop the service"):
        pid = cache.succeed("systemctl show --value --property MainPID harmonia.service").strip()
        cache.succeed("systemctl reload harmonia.service")
        name = path.removeprefix("/nix/store/")[:32]
        client.succeed(f"curl --fail --silent http://cache:5000/{name}.narinfo")
        now = cache.succeed("systemctl show --value --property MainPID harmonia.service").strip()
        assert now == pid, f"{pid} became {now}"
  '';
}
