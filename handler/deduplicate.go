package handler

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxClaims     = 10_000  // events that are remembered
	maxClaimBytes = 8 << 20 // of memory, for all that is remembered
	maxReplyBytes = 1 << 20 // of one reply: no reply may push all others out

	// claimBytes is what a claim takes besides its reply, rounded up.
	claimBytes = 512
)

// claims are the events that are being received, and those that were accepted and
// what was answered. They are of receivers that asked for it, and within bounds.
type claims struct {
	mu      sync.Mutex
	byKey   map[claimKey]*claim
	settled list.List // of *claim, the oldest first; one that runs is not in it, and stays
	bytes   int
}

// A claimKey is of one event for one receiver. It is a hash, so that a sender who
// chooses long names takes no more memory than others.
type claimKey [sha256.Size]byte

// A claim is the right to receive one event.
type claim struct {
	key     claimKey
	element *list.Element // nil while its receiver runs
	answer  answer
	expires time.Time
	bytes   int
}

// keyOf returns the key of an event: its source and id for the receiver of a type.
// Each is written with its length, so that no two events have the same.
func keyOf(eventType, source, id string) claimKey {
	text := make([]byte, 0, 256)
	for _, s := range []string{eventType, source, id} {
		text = strconv.AppendInt(text, int64(len(s)), 10)
		text = append(append(text, ':'), s...)
	}
	return sha256.Sum256(text)
}

// claim returns a claim to be settled, or nil and the answer to an event that runs or
// was accepted before.
func (c *claims) claim(key claimKey) (*claim, answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	earlier := c.byKey[key]
	switch {
	case earlier == nil:
	case earlier.element == nil:
		return nil, answer{status: http.StatusConflict, outcome: duplicate}
	case time.Now().Before(earlier.expires):
		again := earlier.answer
		again.outcome = duplicate
		return nil, again
	default:
		c.forget(earlier)
	}
	claim := &claim{key: key, bytes: claimBytes}
	c.byKey[key] = claim
	c.bytes += claim.bytes
	c.trim()
	return claim, answer{}
}

// settle ends a claim. An accepted event is remembered; any other may run again, unless
// its receiver is to run once. What is kept is a copy: the receiver's own may change, or
// be a small part of much.
func (c *claims) settle(claim *claim, a answer, r *registration) {
	size := len(a.body)
	kept := make(http.Header, len(a.header))
	for name, values := range a.header {
		size += len(name) + len(values[0])
		kept[strings.Clone(name)] = []string{strings.Clone(values[0])} // encode makes one of each
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.outcome != accepted && !r.once, size > maxReplyBytes && !r.once:
		c.forget(claim)
		return
	case size > maxReplyBytes:
		a, kept, size = answer{status: http.StatusNoContent, outcome: accepted}, nil, 0
	}
	a.header, a.body = kept, bytes.Clone(a.body)
	claim.answer, claim.expires = a, time.Now().Add(r.remember)
	claim.bytes += size
	c.bytes += size
	claim.element = c.settled.PushBack(claim)
	c.trim()
}

// trim forgets the oldest answers until the rest is within bounds and not expired.
func (c *claims) trim() {
	now := time.Now()
	for c.settled.Len() > 0 {
		oldest := c.settled.Front().Value.(*claim)
		if len(c.byKey) <= maxClaims && c.bytes <= maxClaimBytes && now.Before(oldest.expires) {
			return
		}
		c.forget(oldest)
	}
}

func (c *claims) forget(claim *claim) {
	delete(c.byKey, claim.key)
	c.bytes -= claim.bytes
	if claim.element != nil {
		c.settled.Remove(claim.element)
	}
}
