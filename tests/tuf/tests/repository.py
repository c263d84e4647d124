"""Makes and checks repositories with python-tuf, the reference implementation. Called by python_tuf.rs.

    repository.py verify METADATA TARGETS TARGET     python-tuf as the client of a repository that Comber made
    repository.py make DIR                           repositories of python-tuf's own, one for each case, hostile as its name says
"""

import copy
import functools
import json
import os
import sys
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater

NAME = "webapp-1.0.rel"
RELEASE = {"product": "webapp", "version": "1.0", "counter": 1, "rollback_ok": True}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def verify(metadata, targets, target):
    """From the first root on, over HTTP, as any client of python-tuf does."""
    top = os.path.commonpath([os.path.abspath(metadata), os.path.abspath(targets)])
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=top))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/"
    url = lambda path: base + os.path.relpath(path, top) + "/"
    with tempfile.TemporaryDirectory() as mine, open(os.path.join(metadata, "1.root.json"), "rb") as root:
        os.mkdir(os.path.join(mine, "got"))
        updater = Updater(
            os.path.join(mine, "trusted"),
            metadata_base_url=url(metadata),
            target_base_url=url(targets),
            target_dir=os.path.join(mine, "got"),
            bootstrap=root.read(),
        )
        updater.refresh()
        info = updater.get_targetinfo(target)
        if info is None:
            sys.exit(f"{target} is not listed")
        with open(updater.download_target(info), "rb") as got:
            print(sha256(got.read()).hexdigest())


class Maker:
    """An honest repository in memory; cases change it, and what they change is signed."""

    def __init__(self):
        later = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
        self.keys = {name: CryptoSigner.generate_ed25519() for name in ("root", "timestamp", "snapshot", "targets", "second", "stranger")}
        self.root = Root(expires=later)
        for role in ("root", "timestamp", "snapshot", "targets"):
            self.root.add_key(self.keys[role].public_key, role)
        self.data = b"a bundle"
        file = TargetFile.from_data(NAME, self.data, ["sha256"])
        file.unrecognized_fields["custom"] = {"release": dict(RELEASE)}
        self.targets = Targets(expires=later, targets={NAME: file})
        self.snapshot = Snapshot(expires=later)
        self.timestamp = Timestamp(expires=later)
        self.signers = {role: [role] for role in ("root", "timestamp", "snapshot", "targets")}
        self.after = {}
        self.then = None

    def next_root(self, directory):
        change, self.signers["root"] = self.then
        self.root.version = 2
        change(self.root, self)
        with open(os.path.join(directory, "2.root.json"), "wb") as out:
            out.write(self.signed("root"))

    def signed(self, role):
        md = Metadata(copy.deepcopy(getattr(self, role)))
        for name in self.signers[role]:
            md.sign(self.keys[name], append=True)
        data = md.to_bytes()
        change = self.after.get(role)
        return change(data) if change else data

    def write(self, directory, roles=("root", "targets", "snapshot", "timestamp")):
        os.makedirs(directory, exist_ok=True)
        for role in roles:
            version = getattr(self, role).version
            name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
            with open(os.path.join(directory, name), "wb") as out:
                out.write(self.signed(role))

    def bump(self, *roles):
        """New versions, each listed by the next role."""
        for role in roles:
            getattr(self, role).version += 1
        self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)


def edit(change):
    """Changes the text after it was signed."""

    def changed(data):
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return changed


def case_honest(m):
    pass


def case_unknown_fields(m):
    m.root.unrecognized_fields["x-note"] = {"any": [1, True, None]}
    m.targets.unrecognized_fields["x-note"] = "text"
    m.targets.targets[NAME].unrecognized_fields["custom"]["other"] = 7


def case_threshold_not_reached(m):
    m.root.add_key(m.keys["second"].public_key, "targets")
    m.root.roles["targets"].threshold = 2


def case_threshold_by_the_same_signature_twice(m):
    case_threshold_not_reached(m)
    m.after["targets"] = edit(lambda v: v["signatures"].append(v["signatures"][0]))


def case_duplicate_key_ids_in_a_role(m):
    role = m.root.roles["targets"]
    role.keyids = role.keyids * 2
    role.threshold = 2


def case_key_under_another_name(m):
    def rename(value):
        keys = value["signed"]["keys"]
        old = next(iter(keys))
        keys["00" * 32] = keys.pop(old)

    m.after["root"] = edit(rename)


def case_signed_by_a_stranger(m):
    m.signers["targets"] = ["stranger"]


def case_one_key_signs_for_another_role(m):
    m.signers["targets"] = ["timestamp"]


def case_expired(role):
    def expired(m):
        getattr(m, role).expires = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=1)

    return expired


def case_text_changed_after_signing(m):
    m.after["targets"] = lambda data: data.replace(b'"counter": 1', b'"counter": 9').replace(b'"counter":1', b'"counter":9')


def case_listed_with_another_hash(m):
    m.snapshot.meta["targets.json"] = MetaFile(1, hashes={"sha256": "0" * 64})


def case_listed_with_another_length(m):
    m.timestamp.snapshot_meta = MetaFile(1, length=10)


def case_listed_under_another_version(m):
    m.snapshot.meta["targets.json"] = MetaFile(2)


def case_file_of_another_role(m):
    m.after["targets"] = lambda data: m.signed("snapshot")


def case_no_targets_listed(m):
    m.snapshot.meta = {}


def case_specification_2(m):
    m.after["timestamp"] = edit(lambda v: v["signed"].update(spec_version="2.0.0"))


def case_specification_is_no_version(m):
    m.after["timestamp"] = edit(lambda v: v["signed"].update(spec_version="../../etc"))


def case_oversized_timestamp(m):
    m.timestamp.unrecognized_fields["x"] = "x" * (1 << 20)


def case_oversized_targets(m):
    m.targets.unrecognized_fields["x"] = "x" * (9 << 20)


def case_many_values(m):
    m.targets.unrecognized_fields["x"] = [0] * 1_000_000


def case_nested_beyond_measure(m):
    m.after["targets"] = lambda data: b'{"signed":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def case_version_zero(m):
    m.after["timestamp"] = edit(lambda v: v["signed"].update(version=0))


def case_version_beyond_integers(m):
    m.after["timestamp"] = edit(lambda v: v["signed"].update(version=1 << 70))


def case_threshold_zero(m):
    m.after["root"] = edit(lambda v: v["signed"]["roles"]["targets"].update(threshold=0))


def case_garbage(m):
    m.after["snapshot"] = lambda data: bytes(range(256)) * 40


# A second root, which the first one does not allow, or which is not the second.


def exchange_root_key(root, m):
    root.revoke_key(m.keys["root"].public_key.keyid, "root")
    root.add_key(m.keys["second"].public_key, "root")


def second_root(change, *signers):
    def case(m):
        m.then = (change, signers)

    return case


# The release is left out, or what is signed of it is none of ours: nobody can assign it.


def renamed(name):
    def change(m):
        file = m.targets.targets.pop(NAME)
        file.path = name
        m.targets.targets[name] = file

    return change


def custom(value):
    def change(m):
        m.targets.targets[NAME].unrecognized_fields["custom"] = value

    return change


SECOND = {
    # A first look at the honest repository, then a second one at what the case made of it.
    "rollback_of_the_timestamp": lambda m: m.bump("timestamp"),
    "rollback_of_the_snapshot": lambda m: m.bump("snapshot", "timestamp"),
    "rollback_of_the_targets": lambda m: m.bump("targets", "snapshot", "timestamp"),
}

CASES = {name.removeprefix("case_"): case for name, case in list(globals().items()) if name.startswith("case_") and name != "case_expired"}
CASES |= {f"expired_{role}": case_expired(role) for role in ("root", "timestamp", "snapshot", "targets")}
CASES |= {
    "root_that_its_own_keys_do_not_sign": second_root(exchange_root_key, "root"),
    "root_that_the_old_keys_do_not_sign": second_root(exchange_root_key, "second"),
    "root_under_another_version": second_root(lambda root, m: setattr(root, "version", 3), "root"),
    "root_that_is_older": second_root(lambda root, m: setattr(root, "version", 1), "root"),
}
CASES |= {
    "unlisted_name_that_climbs": renamed("../../../etc/passwd"),
    "unlisted_name_of_another_release": renamed("webapp-9.9.rel"),
    "unlisted_name_with_control_characters": renamed("webapp-1.0.rel\n\x1b[2J"),
    "unlisted_without_custom": lambda m: m.targets.targets[NAME].unrecognized_fields.clear(),
    "empty_custom": custom({}),
    "unlisted_custom_of_another_kind": custom({"release": [1, 2, 3]}),
    "unlisted_negative_counter": custom({"release": {**RELEASE, "counter": -1}}),
    "unlisted_product_that_climbs": custom({"release": {**RELEASE, "product": "../webapp"}}),
}


def make(directory, case):
    m = Maker()
    if case not in SECOND:
        CASES[case](m)
        m.write(os.path.join(directory, case, "now"))
        if m.then:
            m.next_root(os.path.join(directory, case, "now"))
        return
    SECOND[case](m)
    m.write(os.path.join(directory, case, "first"))
    # What is shown then is what was before, under newer lists where it takes some.
    older = Maker()
    older.keys, older.root = m.keys, m.root
    if case != "rollback_of_the_timestamp":
        older.timestamp.version = m.timestamp.version + 1
    if case == "rollback_of_the_targets":
        older.snapshot.version = m.snapshot.version + 1
        older.timestamp.snapshot_meta = MetaFile(older.snapshot.version)
    older.write(os.path.join(directory, case, "now"))


if __name__ == "__main__":
    if sys.argv[1] == "verify":
        verify(*sys.argv[2:5])
    else:
        for case in [*CASES, *SECOND]:
            make(sys.argv[2], case)
