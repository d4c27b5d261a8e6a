vcl 4.1;

# Varnish in front of harmonia, for Varnish 7.1 or later: a cache of narinfos and NARs. Change the backend if harmonia is
# elsewhere. The storage is an option of varnishd and must be larger than the largest NAR, e.g.
#   varnishd -a :80 -f /etc/varnish/harmonia.vcl -s file,/var/lib/varnish/harmonia.bin,50G
# harmonia decides by Cache-Control what is cached and for how long: NARs a year, narinfos and listings an hour, 404 and
# errors never. Varnish accepts no encoding but gzip, which harmonia does not have: there is one copy of everything, without
# content encoding, and every download can be resumed. Requests with credentials, and uploads, are passed on and nothing of them is
# kept: Varnish does so by itself. With enable_compression a narinfo is cached for each User-Agent (Vary).
# tests/integration/proxies/varnish.rs runs varnishd with this file.

backend default {
    .host = "127.0.0.1";
    .port = "5000";
    # A NAR may wait 4 minutes for a connection to nix-daemon, after which harmonia answers 503.
    .first_byte_timeout = 10m;
    .between_bytes_timeout = 5m;
}

sub vcl_recv {
    # Nix stops reading for minutes while it unpacks, and a large NAR on a slow line takes hours.
    set sess.idle_send_timeout = 30m;
    set sess.send_timeout = 24h;
    # libcurl reuses connections that have been idle for up to 118 seconds.
    set sess.timeout_idle = 150s;

    # Not for clients: Prometheus can scrape harmonia directly.
    if (req.url == "/metrics") {
        return (synth(404));
    }
    unset req.http.X-Forwarded-Host;
    # A HEAD of a NAR must not fetch the NAR.
    if (req.method == "HEAD") {
        return (pass);
    }
}

sub vcl_hash {
    # Without the host: nothing that is cached depends on it.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    # A narinfo must not outlive its hour.
    set beresp.grace = 0s;
}

sub vcl_deliver {
    # Nix resumes a download only if the latest response had it, even the 502 below.
    set resp.http.Accept-Ranges = "bytes";
    if (obj.hits > 0) {
        set resp.http.X-Cache-Status = "HIT";
    } else {
        set resp.http.X-Cache-Status = "MISS";
    }
}

# harmonia cannot be reached. Varnish's own status would be 503, on which Nix from 2.35 on waits a minute before it tries
# another cache.
sub vcl_backend_error {
    set beresp.status = 502;
    set beresp.http.Cache-Control = "no-store";
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.body = "";
    return (deliver);
}
