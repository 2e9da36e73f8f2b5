-- The content of a ledger of schema 1, as its vgpud wrote it.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE cuts (
    gpu        TEXT PRIMARY KEY,
    mechanism  TEXT NOT NULL,
    detail     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE slices (
    id          INTEGER PRIMARY KEY,
    gpu         TEXT NOT NULL,
    mechanism   TEXT NOT NULL,
    profile     TEXT NOT NULL,
    instance    TEXT NOT NULL,
    memory      INTEGER,
    compute     INTEGER,
    phase       TEXT NOT NULL,
    detail      TEXT NOT NULL,
    fate        TEXT NOT NULL,
    tie         TEXT,
    generation  INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    UNIQUE (gpu, instance)
) STRICT;

CREATE TABLE leases (
    slice       INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    gpu         TEXT NOT NULL,
    owner       TEXT NOT NULL,
    holder_pid  INTEGER,
    since_ms    INTEGER NOT NULL,
    node        TEXT,
    cdi_device  TEXT,
    ended_ms    INTEGER,
    ended_by    TEXT,
    PRIMARY KEY (slice, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE intents (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    effect      TEXT NOT NULL,
    slice       INTEGER,
    gpu         TEXT,
    detail      TEXT NOT NULL,
    asked_ms    INTEGER NOT NULL,
    outcome     TEXT,
    evidence    TEXT,
    ended_ms    INTEGER
) STRICT;
CREATE INDEX open_intents ON intents (id) WHERE outcome IS NULL;

CREATE TABLE audit (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    unix_ms     INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    slice       INTEGER,
    gpu         TEXT,
    owner       TEXT,
    message     TEXT NOT NULL
) STRICT;

INSERT INTO meta VALUES ('boot_id', 'b-1'), ('last_id', '2');
INSERT INTO cuts VALUES ('0000:41:00.0', 'sriov',
    '{"mechanism":"sriov","origin":"ours","retiring":"idle","capacity":{"vf-8":8}}');
INSERT INTO slices VALUES (1, '0000:41:00.0', 'sriov', 'vf-8', '{"vf":0}', 16777216, 1250, 'leased',
    '{"phase":"leased","lease":{"owner":"pod-c","since":1700000050000,"holder":{"pid":7,"started":99},"handover":{"node":"/dev/vfio/7","cdi_device":"vgpud.io/slice=s1"}}}',
    '{"fate":"keep"}', NULL, 2, 1700000000000);
INSERT INTO leases VALUES
    (1, 1, '0000:41:00.0', 'pod-a', NULL, 1700000010000, '/dev/vfio/7', 'vgpud.io/slice=s1', 1700000020000, 'scrubbing'),
    (2, 1, '0000:41:00.0', 'pod-b', NULL, 1700000030000, '/dev/vfio/8', 'vgpud.io/slice=s2', 1700000040000, 'creating'),
    (1, 2, '0000:41:00.0', 'pod-c', 7, 1700000050000, '/dev/vfio/7', 'vgpud.io/slice=s1', NULL, NULL);
INSERT INTO intents VALUES (1, 'reset', 1, '0000:41:00.0',
    '{"effect":"reset","target":{"slice":1,"gpu":"0000:41:00.0","mechanism":"sriov","name":{"vf":0}}}',
    1700000020000, 'done', NULL, 1700000021000);
INSERT INTO audit VALUES (1, 1700000000000, 'slice-ready', 1, '0000:41:00.0', NULL,
    's1 is ready: vf-8 on 0000:41:00.0');
PRAGMA application_id = 1447514197;
PRAGMA user_version = 1;
