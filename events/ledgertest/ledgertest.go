// Package ledgertest has the tests that every implementation of [events.Ledger] passes.
package ledgertest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coffeebuddy/events"

	"github.com/matryer/is"
)

// Run runs the tests. open returns a ledger over the same memory at each call: for a shared
// one, that of another process.
func Run(t *testing.T, open func(*testing.T) events.Ledger) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, events.Ledger, events.Ledger){
		"a claim that is held is not given twice":           held,
		"a settled claim answers with its record":           answered,
		"an empty record is a record":                       emptyRecord,
		"a released claim may be claimed again":             released,
		"other data is a mismatch, once settled":            mismatch,
		"a record is forgotten with its age":                aged,
		"a record is a copy":                                copied,
		"one of many that claim at a time gets it":          contended,
		"a record over the limit leaves the claim held":     tooLarge,
		"any names make a key, a megabyte and NUL included": anyNames,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t), open(t))
		})
	}
}

// request is for an event of this test alone.
func request(t *testing.T, names ...string) events.Request {
	t.Helper()
	return events.Request{
		Key: events.KeyOf(append([]string{t.Name()}, names...)...), Data: sha256.Sum256([]byte("data")),
		Receiver: "coffee.ordered", Lease: time.Minute, Keep: time.Hour,
	}
}

// record returns what a claim is answered with, "" unless it was.
func record(t *testing.T, l events.Ledger, r events.Request) string {
	t.Helper()
	claim, err := l.Claim(t.Context(), r)
	if answered, ok := errors.AsType[*events.Answered](err); ok && claim == nil {
		return string(answered.Record)
	}
	if err == nil {
		t.Fatal("the event was claimed again")
	}
	t.Fatal(err)
	return ""
}

func held(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	for _, l := range []events.Ledger{one, other} {
		_, err = l.Claim(t.Context(), r)
		is.Equal(err, events.ErrRunning)
	}
	_, err = other.Claim(t.Context(), request(t, "another event"))
	is.NoErr(err)
	is.NoErr(claim.Release(t.Context()))
}

func answered(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	want := "\x00\xff" + strings.Repeat("record", 1000)
	is.NoErr(claim.Settle(t.Context(), []byte(want)))
	is.Equal(record(t, one, r), want)
	is.Equal(record(t, other, r), want)
}

func emptyRecord(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	is.NoErr(claim.Settle(t.Context(), nil))
	is.Equal(record(t, other, r), "")
}

func released(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	for range 2 {
		claim, err := one.Claim(t.Context(), r)
		is.NoErr(err)
		is.NoErr(claim.Release(t.Context()))
		claim, err = other.Claim(t.Context(), r)
		is.NoErr(err)
		is.NoErr(claim.Release(t.Context()))
	}
}

func mismatch(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	forged := r
	forged.Data = sha256.Sum256([]byte("other data"))
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	_, err = other.Claim(t.Context(), forged)
	is.Equal(err, events.ErrRunning) // the first may fail yet, and this one be received
	is.NoErr(claim.Settle(t.Context(), []byte("record")))
	for _, l := range []events.Ledger{one, other} {
		_, err = l.Claim(t.Context(), forged)
		is.Equal(err, events.ErrMismatch)
	}
	is.Equal(record(t, other, r), "record")
}

func aged(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	r.Keep = 300 * time.Millisecond
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	is.NoErr(claim.Settle(t.Context(), []byte("first")))
	r.Keep = time.Hour
	r.Data = sha256.Sum256([]byte("other data"))
	for claim = nil; claim == nil; {
		if claim, err = other.Claim(t.Context(), r); err != nil {
			is.Equal(err, events.ErrMismatch)
		}
	}
	_, err = one.Claim(t.Context(), r)
	is.Equal(err, events.ErrRunning)
	is.NoErr(claim.Settle(t.Context(), []byte("second")))
	is.Equal(record(t, one, r), "second")
}

func copied(t *testing.T, one, _ events.Ledger) {
	is, r := is.New(t), request(t)
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	buffer := []byte("first")
	is.NoErr(claim.Settle(t.Context(), buffer))
	copy(buffer, "later")
	is.Equal(record(t, one, r), "first")
}

func contended(t *testing.T, one, other events.Ledger) {
	is := is.New(t)
	for i := range 20 {
		r := request(t, strconv.Itoa(i))
		var claimed atomic.Int64
		var all sync.WaitGroup
		for _, l := range []events.Ledger{one, other, one, other} {
			all.Go(func() {
				switch _, err := l.Claim(t.Context(), r); {
				case err == nil:
					claimed.Add(1)
				case !errors.Is(err, events.ErrRunning):
					t.Error(err)
				}
			})
		}
		all.Wait()
		is.Equal(claimed.Load(), int64(1))
	}
}

func tooLarge(t *testing.T, one, other events.Ledger) {
	is, r := is.New(t), request(t)
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	is.Equal(claim.Settle(t.Context(), bytes.Repeat([]byte("x"), 1<<20+1)), events.ErrTooLarge)
	_, err = other.Claim(t.Context(), r)
	is.Equal(err, events.ErrRunning)
	is.NoErr(claim.Settle(t.Context(), []byte("small")))
	is.Equal(record(t, other, r), "small")
}

func anyNames(t *testing.T, one, other events.Ledger) {
	is := is.New(t)
	for _, name := range []string{"\x00", strings.Repeat("x", 1<<20), "\xff\xfe", "'; drop table coffeebuddy_ledger; --"} {
		claim, err := one.Claim(t.Context(), request(t, name))
		is.NoErr(err)
		_, err = other.Claim(t.Context(), request(t, name))
		is.Equal(err, events.ErrRunning)
		is.NoErr(claim.Release(t.Context()))
	}
}
