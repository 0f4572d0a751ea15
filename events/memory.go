package events

import (
	"bytes"
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	maxClaims      = 10_000  // events that are remembered
	maxClaimBytes  = 8 << 20 // of memory, for all that is remembered
	maxRecordBytes = 1 << 20 // of one record, so that none evicts all others

	// claimBytes is what a claim takes besides its record, rounded up.
	claimBytes = 512
)

// Memory is a [Ledger] of one process. It is bounded: 10,000 claims and 8 MiB for all
// receivers together, and 1 MiB for one record. Where a bound is reached, the receiver that
// takes most of it loses its oldest record, so that a flood for one receiver leaves each of the
// others its part: half of it where there are two. A claim that is held is never evicted.
type Memory struct {
	mu        sync.Mutex
	byKey     map[Key]*memoryClaim
	receivers map[string]*share
	bytes     int
}

// A share is what one receiver takes of a Memory.
type share struct {
	settled list.List // of *memoryClaim, the oldest first
	claims  int       // settled and held
	bytes   int
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{byKey: make(map[Key]*memoryClaim), receivers: make(map[string]*share)}
}

// A memoryClaim is held until it has an element.
type memoryClaim struct {
	memory  *Memory
	share   *share
	key     Key
	data    [32]byte
	keep    time.Duration
	element *list.Element // nil while the claim is held
	record  []byte
	expires time.Time
	bytes   int
}

// Claim implements [Ledger]. A claim needs no lease: it ends with its process.
func (m *Memory) Claim(_ context.Context, r Request) (Claim, error) {
	if r.Transactional {
		return nil, ErrNoTransaction
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch earlier := m.byKey[r.Key]; {
	case earlier == nil:
	case earlier.element == nil:
		return nil, ErrRunning
	case !time.Now().Before(earlier.expires):
		m.forget(earlier)
	case earlier.data != r.Data:
		return nil, ErrMismatch
	default:
		return nil, &Answered{earlier.record}
	}
	s := m.receivers[r.Receiver]
	if s == nil {
		s = new(share)
		m.receivers[r.Receiver] = s
	}
	claim := &memoryClaim{memory: m, share: s, key: r.Key, data: r.Data, keep: r.Keep}
	m.byKey[r.Key] = claim
	s.claims++
	m.grow(claim, claimBytes)
	m.trim()
	return claim, nil
}

// Context implements [Claim].
func (c *memoryClaim) Context(ctx context.Context) context.Context { return ctx }

// Settle implements [Claim]. It keeps a copy of the record.
func (c *memoryClaim) Settle(_ context.Context, record []byte) error {
	if len(record) > maxRecordBytes {
		return ErrTooLarge
	}
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	c.record, c.expires = bytes.Clone(record), time.Now().Add(c.keep)
	c.element = c.share.settled.PushBack(c)
	m.grow(c, len(record))
	m.trim()
	return nil
}

// Release implements [Claim].
func (c *memoryClaim) Release(context.Context) error {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	c.memory.forget(c)
	return nil
}

// grow counts bytes of a claim.
func (m *Memory) grow(c *memoryClaim, n int) {
	c.bytes += n
	c.share.bytes += n
	m.bytes += n
}

// trim forgets expired records, and then the oldest ones of the receivers that take most,
// until the rest is within bounds.
func (m *Memory) trim() {
	now := time.Now()
	for _, s := range m.receivers {
		for s.settled.Len() > 0 && !now.Before(s.oldest().expires) {
			m.forget(s.oldest())
		}
	}
	for len(m.byKey) > maxClaims || m.bytes > maxClaimBytes {
		largest := m.largest(m.bytes > maxClaimBytes)
		if largest == nil {
			return // all are held
		}
		m.forget(largest.oldest())
	}
}

// largest returns the share with a record that has most bytes, or else most claims; nil for
// none.
func (m *Memory) largest(byBytes bool) *share {
	var largest *share
	for _, s := range m.receivers {
		switch {
		case s.settled.Len() == 0:
		case largest == nil, byBytes && s.bytes > largest.bytes, !byBytes && s.claims > largest.claims:
			largest = s
		}
	}
	return largest
}

func (s *share) oldest() *memoryClaim { return s.settled.Front().Value.(*memoryClaim) }

func (m *Memory) forget(c *memoryClaim) {
	delete(m.byKey, c.key)
	c.share.claims--
	m.grow(c, -c.bytes)
	if c.element != nil {
		c.share.settled.Remove(c.element)
	}
}
