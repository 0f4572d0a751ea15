package events

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"time"
)

// A Ledger remembers which events are being received, and which were received and how they
// were answered. [NewMemory] returns the one that is used if Config names no other: it holds
// within one process. The package ledger has one that all pods share. The package ledgertest
// has the tests that every implementation passes.
//
// A Ledger may be used by many goroutines.
type Ledger interface {
	// Claim asks for the right to receive an event. It returns the claim, or [ErrRunning],
	// [ErrMismatch], an [Answered], or any other error if the ledger cannot be asked, in
	// which case the event must not be received.
	Claim(ctx context.Context, r Request) (Claim, error)
}

// A Request asks for a claim.
type Request struct {
	Key      Key           // of the event, for its receiver
	Data     [32]byte      // SHA-256 of the event's data, which a duplicate must share
	Receiver string        // whose share of a bounded memory the claim counts against
	Lease    time.Duration // how long the claim is held without a sign of life of its owner; the ledger renews it
	Keep     time.Duration // how long the record is kept once the claim is settled
	Lost     func()        // called if the claim is lost to another owner while it is held. Nil for no call

	// Transactional asks for a transaction: what the receiver writes with the context of
	// [Claim.Context] is committed by Settle together with the record, or not at all.
	Transactional bool
}

// A Claim is the right to receive one event. Either Settle or Release ends it.
type Claim interface {
	// Context returns the context for the receiver. It carries the transaction, if there is
	// one.
	Context(ctx context.Context) context.Context

	// Settle records how the event was answered. [ErrLost] says that the claim has another
	// owner, [ErrTooLarge] that the record is over the ledger's limit, in which case the
	// claim is still held.
	Settle(ctx context.Context, record []byte) error

	// Release gives the claim back: the event may be received again.
	Release(ctx context.Context) error
}

var (
	// ErrRunning says that the event is being received.
	ErrRunning = errors.New("the event is being received")

	// ErrMismatch says that an event with the same source and id, but with other data, was
	// received.
	ErrMismatch = errors.New("an event with the same source and id had other data")

	// ErrLost says that a claim has another owner, since its lease had ended.
	ErrLost = errors.New("the claim has another owner")

	// ErrTooLarge says that a record is over the limit of the ledger.
	ErrTooLarge = errors.New("the record is too large to keep")

	// ErrNoTransaction says that a ledger has no transactions.
	ErrNoTransaction = errors.New("the ledger has no transactions")
)

// Answered is the error of Claim for an event that was received. It holds the record.
type Answered struct{ Record []byte }

func (*Answered) Error() string { return "the event was received" }

// A Key identifies an event for a receiver. It is a hash, so that long names take no more
// memory than others.
type Key [sha256.Size]byte

// KeyOf returns the key of some names. Each is hashed with its length, so that no two lists
// have the same key.
func KeyOf(names ...string) Key {
	text := make([]byte, 0, 256)
	for _, s := range names {
		text = strconv.AppendInt(text, int64(len(s)), 10)
		text = append(append(text, ':'), s...)
	}
	return sha256.Sum256(text)
}
