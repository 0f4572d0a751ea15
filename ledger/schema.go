package ledger

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"coffeebuddy/internal/fault"
)

// Schema is the SQL that makes the tables, for a user who may not create any.
//
//go:embed schema.sql
var Schema string

const (
	version = 1
	comment = "coffeebuddy ledger, version "

	// locks is the first number of the ledger's advisory locks; it spells "cofe".
	locks      = 0x636f6665
	schemaLock = 0 // the second number of the lock that making the tables takes
)

// A state is what the database says of itself and the tables.
type state struct {
	readOnly  bool           // a standby, or made read-only
	exists    bool           // the table is there
	comment   sql.NullString // of the table
	allowed   bool           // to read and write both tables
	mayCreate bool           // tables, in the first schema of the search path
	become    bool           // the user became another role at login
}

var (
	errReadOnly = fault.New(fault.Unavailable, "the database is read-only")
	errNoTables = fault.New(fault.Denied, "the tables are missing, and the user may not create them: apply ledger/schema.sql")
)

// look is one round trip, or two where a table has no comment: to_regclass finds one that was
// committed since the statement began, obj_description not yet what it is.
func look(ctx context.Context, db *sql.DB) (state, error) {
	s, err := lookOnce(ctx, db)
	if err == nil && s.exists && !s.comment.Valid {
		return lookOnce(ctx, db)
	}
	return s, err
}

func lookOnce(ctx context.Context, db *sql.DB) (state, error) {
	var s state
	err := db.QueryRowContext(ctx, `
		SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
		       ledger IS NOT NULL,
		       obj_description(ledger, 'pg_class'),
		       (SELECT coalesce(bool_and(coalesce(has_table_privilege(t, p), false)), false)
		        FROM unnest(ARRAY[ledger::oid, outbox::oid]) t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p),
		       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
		       session_user <> current_user
		FROM to_regclass('coffeebuddy_ledger') ledger, to_regclass('coffeebuddy_outbox') outbox`).
		Scan(&s.readOnly, &s.exists, &s.comment, &s.allowed, &s.mayCreate, &s.become)
	if err != nil {
		return state{}, fmt.Errorf("look for the ledger's tables: %w", err)
	}
	return s, nil
}

// verdict returns nil for tables that can be used.
func (s state) verdict() error {
	text, ours := strings.CutPrefix(s.comment.String, comment)
	number, err := strconv.Atoi(text)
	switch {
	case s.readOnly:
		return errReadOnly
	case !s.exists:
		return errNoTables
	case !ours || err != nil:
		return fault.New(fault.BadResponse, "there is a table coffeebuddy_ledger that is not this function's")
	case number != version:
		return fault.New(fault.BadResponse, "the tables are of version "+strconv.Itoa(number)+", and this function knows "+strconv.Itoa(version))
	case !s.allowed:
		return fault.New(fault.Denied, "the user may not read and write the tables")
	}
	return nil
}

// prepare makes sure that the tables are there. The lock is held.
func (l *Ledger) prepare(ctx context.Context, db *sql.DB) error {
	s, err := look(ctx, db)
	if err != nil {
		return err
	}
	if s.readOnly || s.exists || !s.mayCreate {
		return s.verdict()
	}
	if l.config.Dynamic && !s.become {
		return fault.New(fault.Misconfigured,
			"the tables are missing, and a user with an end must not own them: apply ledger/schema.sql, or have the user become their owner")
	}
	return l.create(ctx, db)
}

// create makes the tables. Pods that start at the same time wait for each other.
func (l *Ledger) create(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("make the ledger's tables: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err = tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, locks, schemaLock); err != nil {
		return fmt.Errorf("make the ledger's tables: %w", err)
	}
	var exists bool // by a query of the catalog: to_regclass may answer from before the lock was waited for
	if err = tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'coffeebuddy_ledger' AND relnamespace = current_schema()::regnamespace)`).Scan(&exists); err != nil {
		return fmt.Errorf("make the ledger's tables: %w", err)
	}
	if !exists {
		if _, err = tx.ExecContext(ctx, Schema); err != nil {
			return fmt.Errorf("make the ledger's tables: %w", err)
		}
	}
	if err = tx.Commit(); err != nil {
		return fmt.Errorf("make the ledger's tables: %w", err)
	}
	if !exists {
		l.config.Log.LogAttrs(ctx, slog.LevelInfo, "the ledger's tables were made")
	}
	s, err := look(ctx, db)
	if err != nil {
		return err
	}
	return s.verdict()
}
