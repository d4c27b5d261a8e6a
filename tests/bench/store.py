"""Stores to serve.

`packages` is one of real files: what is installed of each Debian package of this machine becomes a store path, with the
paths of the packages that it depends on as references. `many` is one of very many small paths, registered without being
added one by one.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess

NIX32 = "0123456789abcdfghijklmnpqrsvwxyz"
# Directories with world-readable files of packages.
PLACES = ("/usr/", "/bin/", "/lib/", "/sbin/")
# Approximate overhead of a file in a NAR.
ENTRY = 200
# Number of packages that are added at a time, since they need twice the space meanwhile.
BATCH = 40


def packages(prefix, megabytes):
    """Fills a store with packages of this machine; returns the paths in the order of a client's requests."""
    done = prefix.directory / "paths"
    if not done.exists():
        files = _chosen(megabytes * 1_000_000)
        paths = _add(prefix, files)
        references = _references(paths, _dependencies(sorted(files)))
        needed = {path for found in references.values() for path in found}
        unneeded = sorted(references.keys() - needed)
        top = _profile(prefix, unneeded)
        references[top] = unneeded
        _register(prefix, references)
        done.write_text("\n".join(_walk(top, references)) + "\n")
    return done.read_text().split()


def _chosen(most):
    """Packages with their files, those that anybody may read: one large package, of up to a quarter of `most` bytes, and
    then the smallest that fit, so that there are as many as can be."""
    known = {}
    for package in _lines("dpkg-query", "--show", "--showformat", "${binary:Package}\n"):
        files = [path for path in _lines("dpkg", "--listfiles", package) if path.startswith(PLACES)]
        files = list(filter(_can_be_copied, files))
        if files:
            known[package] = (sum(os.lstat(path).st_size + ENTRY for path in files), files)
    by_size = sorted(known, key=lambda package: (known[package][0], package))
    large = [package for package in by_size if known[package][0] <= most // 4][-1:]
    chosen, total = set(large), sum(known[package][0] for package in large)
    for package in by_size:
        if package not in chosen and total + known[package][0] <= most:
            chosen.add(package)
            total += known[package][0]
    return {package: known[package][1] for package in chosen}


def _can_be_copied(path):
    return os.path.islink(path) or (os.path.isfile(path) and os.access(path, os.R_OK))


def _dependencies(packages):
    """Returns the dependencies of each package among these."""
    by_name = {package.split(":")[0]: package for package in packages}
    dependencies = {}
    for line in _lines("dpkg-query", "--show", "--showformat", "${binary:Package}\t${Depends}\n", *packages):
        package, depends = line.split("\t")
        names = [re.split(r"[ :(|]", item.strip())[0] for item in depends.split(",")]
        dependencies[package] = [by_name[name] for name in names if by_name.get(name, package) != package]
    return dependencies


def _add(prefix, packages):
    """Adds the files of each package; returns the store paths by package."""
    paths, names = {}, sorted(packages)
    for begin in range(0, len(names), BATCH):
        batch = names[begin : begin + BATCH]
        work = prefix.on_host("/nix/tmp/packages")
        for package in batch:
            _copy(packages[package], work / package.split(":")[0])
        names_there = (f"/nix/tmp/packages/{package.split(':')[0]}" for package in batch)
        added = prefix.run("nix-store", "--add", *names_there).split()
        paths.update(zip(batch, added, strict=True))
        shutil.rmtree(work)
    return paths


def _copy(files, root):
    for path in files:
        copy = root / path[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.islink(path):
            copy.symlink_to(os.readlink(path))
        else:
            shutil.copy(path, copy)


def _references(paths, dependencies):
    """Dependencies as references between store paths. Where packages depend on each other in a circle, which store paths
    cannot, one of them goes without."""
    rank = {name: rank for rank, name in enumerate(_dependencies_first(dependencies))}
    return {
        path: sorted({paths[it] for it in dependencies[name] if it in paths and rank[it] < rank[name]})
        for name, path in paths.items()
    }


def _register(prefix, references):
    """Registers references of valid paths."""
    entries = iter(prefix.run("nix-store", "--dump-db").splitlines())
    registered = []
    for path in entries:
        nar_hash, size, deriver, count = (next(entries) for _ in range(4))
        before = [next(entries) for _ in range(int(count))]
        found = references.get(path, before)
        registered += [path, nar_hash, size, deriver, str(len(found)), *found]
    prefix.run("nix-store", "--load-db", text="\n".join(registered) + "\n")


def _dependencies_first(dependencies):
    order, seen = [], set()
    for name in sorted(dependencies):
        stack = [(name, False)]
        while stack:
            it, is_done = stack.pop()
            if is_done:
                order.append(it)
            elif it not in seen:
                seen.add(it)
                stack.append((it, True))
                stack += [(other, False) for other in sorted(dependencies[it])]
    return order


def _profile(prefix, paths):
    """Adds a path of links to these, like a profile: the top of the closure."""
    root = prefix.on_host("/nix/tmp/profile")
    root.mkdir()
    for path in paths:
        (root / path.rsplit("/", 1)[1]).symlink_to(path)
    profile = prefix.run("nix-store", "--add", "/nix/tmp/profile").strip()
    shutil.rmtree(root)
    return profile


def _walk(top, references):
    """Returns the closure breadth first, the order in which a client learns of the paths."""
    order, seen = [top], {top}
    for path in order:
        for reference in references[path]:
            if reference not in seen:
                seen.add(reference)
                order.append(reference)
    return order


def many(prefix, count):
    """Fills a store with small files, each a path; returns the paths."""
    done = prefix.directory / "paths"
    if not done.exists():
        store, entries = prefix.directory / "store", []
        contents = [f"path {number} of {count}\n".encode() for number in range(count)]
        paths = [f"/nix/store/{_hash_part(content)}-path-{number}" for number, content in enumerate(contents)]
        for number, (path, content) in enumerate(zip(paths, contents)):
            (store / path.rsplit("/", 1)[1]).write_bytes(content)
            nar = _nar(content)
            # A tree, in the order in which a client walks it.
            references = paths[2 * number + 1 : 2 * number + 3]
            entries += [path, hashlib.sha256(nar).hexdigest(), str(len(nar)), "", str(len(references)), *references]
        prefix.run("nix-store", "--load-db", text="\n".join(entries) + "\n")
        done.write_text("\n".join(paths) + "\n")
    return done.read_text().split()


def _hash_part(content):
    digest = base64.b32encode(hashlib.sha256(content).digest()[:20]).decode()
    return digest.translate(str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", NIX32))


def _nar(content):
    def text(data):
        return len(data).to_bytes(8, "little") + data + bytes(-len(data) % 8)

    words = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", content, b")"]
    return b"".join(map(text, words))


def _lines(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
