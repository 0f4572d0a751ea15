package slack

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"coffeebuddy/internal/single"
)

const (
	// refreshAfter is how old the secret gets before it is read again beside a request.
	refreshAfter = time.Minute

	// maxAge is how long the last secret is used while none can be read.
	maxAge = time.Hour

	// rereadPause is how long after a read a signature that does not match is taken for
	// wrong without another read: a rotation may refuse Slack for this long. It grows with
	// each reread that found no new secret; see throttle.
	rereadPause = 10 * time.Second

	// retryPause is how long after a read that failed another one begins, where there is
	// no secret at all.
	retryPause = 2 * time.Second

	// previousAge is how long the previous secret is good after a new one was read.
	previousAge = 5 * time.Minute

	// readTimeout is the timeout of one read: Slack's request waits for it.
	readTimeout = time.Second
)

var (
	errUnsigned = errors.New("the signature is of no secret that is known")
	errNoSecret = errors.New("there is no secret to verify with")
)

// secrets is the signing secret as it is known here, with the one before it. It is read
// when a request needs it, by one read at a time.
type secrets struct {
	read func(ctx context.Context, version int) (secret string, read int, err error)
	log  *slog.Logger

	reads single.Work // of the current version

	mu                sync.Mutex
	current, previous held
	began             time.Time // of the last read
	failing           bool      // the last read failed

	mismatches throttle // of rereads for a signature that did not match, which brought no new secret
	versions   versions
}

// held is a secret until it is too old. It is a func, so that no printer shows it.
type held struct {
	reveal  func() string // nil for none
	version int
	until   time.Time
}

// verify returns nil if one of the secrets signed a body, errUnsigned if none did, and
// errNoSecret if that cannot be said.
func (s *secrets) verify(ctx context.Context, sig signature, body []byte) error {
	signed, known := s.signed(sig, body)
	if signed {
		s.refresh(ctx)
		return nil
	}
	s.reread(ctx, known)
	signed, known = s.signed(sig, body)
	switch {
	case signed:
		return nil
	case known:
		return errUnsigned
	}
	return errNoSecret
}

// signed reports whether one of the secrets signed a body, and whether there is a
// current one.
func (s *secrets) signed(sig signature, body []byte) (signed, known bool) {
	s.mu.Lock()
	current, previous := s.current, s.previous
	s.mu.Unlock()
	now := time.Now()
	return current.good(now) && sig.by(current.reveal(), body) ||
		previous.good(now) && sig.by(previous.reveal(), body), current.good(now)
}

func (h held) good(now time.Time) bool { return h.reveal != nil && now.Before(h.until) }

// refresh reads beside the request where the secret has become old.
func (s *secrets) refresh(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.reads.Running() == nil && now.Sub(s.began) >= rereadPause && s.current.until.Sub(now) <= maxAge-refreshAfter {
		s.start(ctx)
	}
}

// reread reads, or waits for the read under way, unless the last one is too young: for a
// signature that matches none of the secrets that are known, or where there is none at all.
func (s *secrets) reread(ctx context.Context, known bool) {
	s.mu.Lock()
	now, pause := time.Now(), retryPause
	if known {
		pause = s.mismatches.pause(now)
	}
	if s.reads.Running() == nil && now.Sub(s.began) >= pause {
		if known {
			s.mismatches.add(now)
		}
		s.start(ctx)
	}
	reading := s.reads.Running()
	s.mu.Unlock()
	if reading == nil {
		return
	}
	patience := time.NewTimer(readTimeout) // a read may hang all the same, in a file that does not come
	defer patience.Stop()
	select {
	case <-reading:
	case <-patience.C:
	case <-ctx.Done(): // one that leaves changes nothing for the others
	}
}

// start begins a read. The lock is held.
func (s *secrets) start(ctx context.Context) {
	var (
		text    string
		version int
		began   = time.Now()
	)
	s.began = began
	s.reads.Start(ctx, func(ctx context.Context) (err error) {
		text, version, err = s.text(ctx, 0)
		return err
	}, func(err error) { s.took(ctx, text, version, began, err) })
}

// try reads a version once, 0 for the current one.
func (s *secrets) try(ctx context.Context, version int) (text string, err error) {
	err = s.reads.Guard(ctx, func(ctx context.Context) (err error) {
		text, _, err = s.text(ctx, version)
		return err
	})
	return text, err
}

// text reads a version, without the white space around it.
func (s *secrets) text(ctx context.Context, version int) (text string, read int, err error) {
	text, read, err = s.read(ctx, version)
	if text = strings.TrimSpace(text); err == nil && text == "" {
		err = errors.New("it is empty")
	}
	return text, read, err
}

// took keeps what a read has brought, and logs what has changed.
func (s *secrets) took(ctx context.Context, text string, version int, began time.Time, err error) {
	changed, was := s.keep(text, version, began, err)
	switch { // without the lock: a log that blocks holds up no request
	case err != nil && !was:
		s.log.WarnContext(ctx, "Slack's signing secret cannot be read", "why", err.Error())
	case err == nil && was:
		s.log.InfoContext(ctx, "Slack's signing secret can be read again")
	}
	if changed {
		s.log.InfoContext(ctx, "Slack's signing secret has changed")
	}
}

// keep reports whether the secret has changed, and whether the read before this failed.
func (s *secrets) keep(text string, version int, began time.Time, err error) (changed, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failing, s.failing = s.failing, err != nil
	if err != nil {
		return false, failing
	}
	if changed = s.current.good(began) && s.current.reveal() != text; changed {
		s.previous = held{s.current.reveal, s.current.version, time.Now().Add(previousAge)}
		s.mismatches = throttle{}
	}
	s.current = held{func() string { return text }, version, began.Add(maxAge)}
	return changed, failing
}
