//! The schema and its steps: one migration for each version, never changed after a release.

use rusqlite::Transaction;

/// `VGPU` in ASCII: tells a ledger from other SQLite files (`PRAGMA application_id`).
pub const APPLICATION_ID: i32 = 0x5647_5055;

/// Each step brings a file from version `index` to `index + 1` (`PRAGMA user_version`).
pub const STEPS: [&str; 4] = [INITIAL, HISTORY, OUT_OF_USE, VENDORS];

const INITIAL: &str = "
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
";

/// Version 2: the evidence of scrubs, and the device of each lease. A former lease that is open has
/// the device of its slice; of those that have ended nothing is known but the slice.
const HISTORY: &str = "
CREATE TABLE scrubs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    slice       INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    work        TEXT NOT NULL,
    result      TEXT NOT NULL,
    why         TEXT,
    evidence    TEXT,
    ended_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX scrubs_of_lease ON scrubs (slice, generation);

ALTER TABLE leases ADD COLUMN instance TEXT;
ALTER TABLE leases ADD COLUMN address TEXT;
UPDATE leases SET instance = (SELECT s.instance FROM slices s WHERE s.id = leases.slice)
    WHERE ended_ms IS NULL;
CREATE INDEX leases_by_start ON leases (since_ms);

CREATE INDEX audit_of_slice ON audit (slice, kind);
";

/// Version 3: whose data a slice may hold (of one that is leased that stands in its lease), and whole
/// GPUs that are kept out of use.
const OUT_OF_USE: &str = "
ALTER TABLE slices ADD COLUMN data_of TEXT;

CREATE TABLE quarantined_gpus (
    gpu        TEXT PRIMARY KEY,
    cause      TEXT NOT NULL,
    since_ms   INTEGER NOT NULL,
    detail     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Version 4: no other tables, but mechanisms and instances (a whole GPU) that a vgpud of version 3 has no
/// words for, and would take for damage.
const VENDORS: &str = "";

/// The version that this program writes.
#[must_use]
pub fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Brings a file from `version` to [`known`], all steps in this transaction.
pub fn migrate(transaction: &Transaction<'_>, version: u32) -> rusqlite::Result<()> {
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", known())
}
