# SPDX-License-Identifier: ISC
"""The tables of an account database, version by version.

A file is brought from one version to the next by the statements that stand here, and a
new file is made in the same way, so that an old and a new one can't differ. A version
that has been released is never changed. See: qtools-accounts(5).
"""

from qtools.accounts.db.opening import APPLICATION_ID

# user: in lower case (fold). uid, gid: both or none. home, maildir: text, or a blob
# where they aren't UTF-8. value of a credential: the stored hash or clear secret.
FIRST = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL UNIQUE,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    uid INTEGER,
    gid INTEGER,
    home,
    maildir,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    CHECK ((uid IS NULL) = (gid IS NULL))
);
CREATE TABLE credential (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value BLOB NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (account, kind)
) WITHOUT ROWID;
"""

# Where an account's mail is; NULL where that can't be said.
MAIL = """
CASE WHEN substr(CAST(maildir AS TEXT), 1, 1) = '/' THEN rtrim(maildir, '/')
ELSE rtrim(home, '/') || '/' || ifnull(rtrim(maildir, '/'), 'Maildir') END
"""

# domain of an account: none for the main one, whose accounts have bare names; so it is
# for aliases. main: of one domain at most. value of a setting: octets as they came.
# outbox: what the hook program has not been told yet, in this order.
# The domain of a name begins behind its last @: rtrim() takes away all that is no @.
SECOND = f"""
CREATE TABLE domain (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name != ''),
    main INTEGER NOT NULL DEFAULT 0 CHECK (main IN (0, 1)),
    created INTEGER NOT NULL
);
CREATE UNIQUE INDEX domain_main ON domain (main) WHERE main;
ALTER TABLE account ADD COLUMN domain INTEGER REFERENCES domain (id);
ALTER TABLE account ADD COLUMN
    may_change INTEGER NOT NULL DEFAULT 1 CHECK (may_change IN (0, 1));
CREATE INDEX account_domain ON account (domain, user);
CREATE INDEX account_mail ON account ({MAIL});
CREATE TABLE alias (
    name TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    domain INTEGER REFERENCES domain (id)
) WITHOUT ROWID;
CREATE INDEX alias_account ON alias (account);
CREATE INDEX alias_domain ON alias (domain);
CREATE INDEX credential_clear ON credential (account) WHERE kind = 'clear';
CREATE TABLE setting (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE TABLE domain_setting (
    domain INTEGER NOT NULL REFERENCES domain (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (domain, name)
) WITHOUT ROWID;
CREATE TABLE privilege (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    name TEXT NOT NULL,
    other TEXT NOT NULL
);
INSERT INTO domain (name, created)
    SELECT DISTINCT substr(user, length(rtrim(user, replace(user, '@', ''))) + 1) AS d,
        CAST(strftime('%s', 'now') AS INTEGER)
    FROM account WHERE user LIKE '%@%' AND d != '';
UPDATE account SET domain = (
    SELECT id FROM domain
    WHERE name = substr(user, length(rtrim(user, replace(user, '@', ''))) + 1)
) WHERE user LIKE '%@%';
INSERT OR IGNORE INTO meta VALUES ('salt-key', lower(hex(randomblob(32))));
"""  # noqa: S608  # an expression of ours

# The statements that lead to each version from the one before it.
STEPS = {1: FIRST, 2: SECOND}
