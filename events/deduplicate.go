package events

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
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
	verdict Verdict
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
func (c *claims) claim(key claimKey) (*claim, Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	earlier := c.byKey[key]
	switch {
	case earlier == nil:
	case earlier.element == nil:
		return nil, Verdict{Outcome: Duplicate}
	case time.Now().Before(earlier.expires):
		again := earlier.verdict
		again.First, again.Outcome = again.Outcome, Duplicate
		return nil, again
	default:
		c.forget(earlier)
	}
	claim := &claim{key: key, bytes: claimBytes}
	c.byKey[key] = claim
	c.bytes += claim.bytes
	c.trim()
	return claim, Verdict{}
}

// settle ends a claim. An accepted event is remembered; any other may run again, unless
// its receiver is to run once. What is kept is a copy: the receiver's own may change, or
// be a small part of much.
func (c *claims) settle(claim *claim, v Verdict, r *registration) {
	size := sizeOf(v.Reply)
	remembered := r.once || v.Outcome == Accepted && size <= maxReplyBytes
	switch {
	case !remembered:
	case size > maxReplyBytes:
		v, size = Verdict{Outcome: Accepted}, 0
	default:
		v.Reply = copyOf(v.Reply)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !remembered {
		c.forget(claim)
		return
	}
	claim.verdict, claim.expires = v, time.Now().Add(r.remember)
	claim.bytes += size
	c.bytes += size
	claim.element = c.settled.PushBack(claim)
	c.trim()
}

// sizeOf returns about how much memory a reply takes besides what every claim takes.
func sizeOf(reply *event.Event) int {
	if reply == nil {
		return 0
	}
	size := len(reply.DataEncoded) + len(reply.ID()) + len(reply.Source()) + len(reply.Type()) +
		len(reply.Subject()) + len(reply.DataSchema()) + len(reply.DataContentType())
	for name, value := range reply.Extensions() {
		text, _ := types.Format(value)
		size += len(name) + len(text)
	}
	return size
}

// copyOf returns a copy of a valid reply, nil for nil, that shares no memory with it.
func copyOf(reply *event.Event) *event.Event {
	if reply == nil {
		return nil
	}
	given := reply.Context.(*event.EventContextV1)
	c := &event.EventContextV1{
		ID:              strings.Clone(given.ID),
		Source:          *types.ParseURIRef(strings.Clone(given.Source.String())),
		Type:            strings.Clone(given.Type),
		DataContentType: copyOfText(given.DataContentType),
		Subject:         copyOfText(given.Subject),
		Time:            &types.Timestamp{Time: given.Time.Time},
	}
	if given.DataSchema != nil {
		c.DataSchema = types.ParseURI(strings.Clone(given.DataSchema.String()))
	}
	if len(given.Extensions) > 0 {
		c.Extensions = make(map[string]any, len(given.Extensions))
	}
	for name, value := range given.Extensions {
		switch v := value.(type) {
		case string:
			value = strings.Clone(v)
		case []byte:
			value = bytes.Clone(v)
		}
		c.Extensions[strings.Clone(name)] = value
	}
	return &event.Event{Context: c, DataEncoded: bytes.Clone(reply.DataEncoded), DataBase64: reply.DataBase64}
}

func copyOfText(text *string) *string {
	if text == nil {
		return nil
	}
	return new(strings.Clone(*text))
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
