vcl 4.1;

# Varnish in front of harmonia, for Varnish 7.1 or later: a cache of narinfos and NARs. To be changed: the backend,
# where it is elsewhere. The storage is an option of varnishd and has to be larger than the largest NAR, e.g.
#   varnishd -a :80 -f /etc/varnish/harmonia.vcl -s file,/var/lib/varnish/harmonia.bin,50G
# What is kept and for how long is harmonia's to say, by Cache-Control: NARs a year, narinfos and listings an hour, 404
# and errors never. Varnish accepts no coding but gzip, which harmonia does not have: there is one copy of everything,
# uncoded, and every download can be resumed; with enable_compression a narinfo is kept for each User-Agent (Vary).
# tests/integration/proxies/varnish.rs runs varnishd with this file.

backend default {
    .host = "127.0.0.1";
    .port = "5000";
    # A NAR may wait 4 minutes for a connection to the daemon. harmonia gives up in time, by a 503.
    .first_byte_timeout = 10m;
    .between_bytes_timeout = 5m;
}

sub vcl_recv {
    # Nix stops reading for minutes while it unpacks, and a large NAR on a slow line takes hours.
    set sess.idle_send_timeout = 30m;
    set sess.send_timeout = 24h;
    # libcurl uses a connection again that has been idle for up to 118 seconds.
    set sess.timeout_idle = 150s;

    # For Prometheus on this machine, not for clients: it can ask harmonia itself.
    if (req.url == "/metrics") {
        return (synth(404));
    }
    unset req.http.X-Forwarded-Host;
    # A HEAD of a NAR must not fetch it.
    if (req.method == "HEAD") {
        return (pass);
    }
}

sub vcl_hash {
    # Without the host: nothing that is kept depends on it.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    # A narinfo is not to outlive its hour.
    set beresp.grace = 0s;
}

sub vcl_deliver {
    # Nix resumes a download only where the latest answer had it, be it the 502 below.
    set resp.http.Accept-Ranges = "bytes";
    if (obj.hits > 0) {
        set resp.http.X-Cache-Status = "HIT";
    } else {
        set resp.http.X-Cache-Status = "MISS";
    }
}

# Where harmonia cannot be reached. Varnish's own status would be 503, for which Nix from 2.35 on waits for a minute before
# it goes on to another cache.
sub vcl_backend_error {
    set beresp.status = 502;
    set beresp.http.Cache-Control = "no-store";
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.body = "";
    return (deliver);
}
