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
	// refreshAfter is the age at which the secret is reread in the background of a request.
	refreshAfter = time.Minute

	// maxAge is how long the last secret stays valid while reads fail.
	maxAge = time.Hour

	// rereadPause is the minimum time between a read and a reread for a signature that does not
	// match. Until then the signature counts as wrong, so after a rotation Slack may be refused for
	// this long. The pause grows with each reread that finds no new secret; see throttle.
	rereadPause = 10 * time.Second

	// retryPause is the minimum time between a failed read and the next, if no secret is known.
	retryPause = 2 * time.Second

	// previousAge is how long the previous secret stays valid after it was last read as the current
	// one.
	previousAge = 5 * time.Minute

	// readTimeout is the timeout of one read. Slack's request waits for it.
	readTimeout = time.Second
)

var (
	errUnsigned = errors.New("the signature is of no secret that is known")
	errNoSecret = errors.New("there is no secret to verify with")
)

// secrets caches the signing secret and the one before it. The secret is read when a request needs
// it, by at most one read at a time.
type secrets struct {
	read func(ctx context.Context, version int) (secret string, read int, err error)
	log  *slog.Logger

	reads single.Work // of the current version

	mu                sync.Mutex
	current, previous held
	began             time.Time // of the last read
	failing           bool      // the last read failed

	mismatches throttle // rereads for a signature that did not match, which found no new secret
	versions   versions
}

// held is a secret with its expiry. The secret is behind a func, so that no printer shows it.
type held struct {
	reveal  func() string // nil for none
	version int
	until   time.Time
}

// verify returns nil if one of the secrets signed the body, errUnsigned if none did, and
// errNoSecret if there is no secret to check with.
func (s *secrets) verify(ctx context.Context, sig signature, body []byte) error {
	signed, known := s.signed(sig, body)
	if signed { // by a secret that may have been replaced since
		s.renew(ctx, false)
		signed, known = s.signed(sig, body)
	}
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

// signed reports whether one of the secrets signed the body, and whether a current secret is known.
func (s *secrets) signed(sig signature, body []byte) (signed, known bool) {
	s.mu.Lock()
	current, previous := s.current, s.previous
	s.mu.Unlock()
	now := time.Now()
	return current.good(now) && sig.by(current.reveal(), body) ||
		previous.good(now) && sig.by(previous.reveal(), body), current.good(now)
}

func (h held) good(now time.Time) bool { return h.reveal != nil && now.Before(h.until) }

// age is the time since a current secret was read.
func (h held) age(now time.Time) time.Duration { return maxAge - h.until.Sub(now) }

// renew reads a current secret again that was read so long ago that a leaked one may have been
// replaced since, and waits for that. If the read fails, the secret is used as it is. Slack's own
// requests do not wait for a Vault that could not be read last: anyway does.
func (s *secrets) renew(ctx context.Context, anyway bool) {
	s.mu.Lock()
	now := time.Now()
	var reading <-chan struct{}
	if s.current.good(now) && s.current.age(now) >= versionAge && (anyway || !s.failing) {
		if s.reads.Running() == nil && now.Sub(s.began) >= retryPause {
			s.start(ctx)
		}
		if now.Sub(s.began) < readTimeout {
			reading = s.reads.Running()
		}
	}
	s.mu.Unlock()
	await(ctx, reading)
}

// refresh starts a background read if the secret has become old.
func (s *secrets) refresh(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.reads.Running() == nil && now.Sub(s.began) >= rereadPause && s.current.age(now) >= refreshAfter {
		s.start(ctx)
	}
}

// reread starts a read, or waits for the running one, unless the last read is too recent. It is for
// a signature that matches no known secret, and for when no secret is known.
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
	await(ctx, reading)
}

// await waits for a read, nil for none.
func await(ctx context.Context, reading <-chan struct{}) {
	if reading == nil {
		return
	}
	timer := time.NewTimer(readTimeout) // a read can exceed its timeout, for example in a file on a hung file system
	defer timer.Stop()
	select {
	case <-reading:
	case <-timer.C:
	case <-ctx.Done(): // its departure does not affect the others
	}
}

// start begins a read. The caller holds the lock.
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

// try reads one version, 0 for the current one, and recovers a panic.
func (s *secrets) try(ctx context.Context, version int) (text string, err error) {
	err = s.reads.Guard(ctx, func(ctx context.Context) (err error) {
		text, _, err = s.text(ctx, version)
		return err
	})
	return text, err
}

// text reads a version and trims the white space around it.
func (s *secrets) text(ctx context.Context, version int) (text string, read int, err error) {
	text, read, err = s.read(ctx, version)
	if text = strings.TrimSpace(text); err == nil && text == "" {
		err = errors.New("it is empty")
	}
	return text, read, err
}

// took stores the result of a read and logs what has changed.
func (s *secrets) took(ctx context.Context, text string, version int, began time.Time, err error) {
	changed, was := s.keep(text, version, began, err)
	switch { // without the lock: a blocked log must not delay requests
	case err != nil && !was:
		s.log.WarnContext(ctx, "Slack's signing secret cannot be read", "why", err.Error())
	case err == nil && was:
		s.log.InfoContext(ctx, "Slack's signing secret can be read again")
	}
	if changed {
		s.log.InfoContext(ctx, "Slack's signing secret has changed")
	}
}

// keep stores the result of a read. It reports whether the secret has changed, and whether the read
// before this one failed.
func (s *secrets) keep(text string, version int, began time.Time, err error) (changed, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failing, s.failing = s.failing, err != nil
	if err != nil {
		return false, failing
	}
	if changed = s.current.good(began) && s.current.reveal() != text; changed {
		s.previous = held{s.current.reveal, s.current.version, s.current.until.Add(previousAge - maxAge)}
		s.mismatches = throttle{}
	}
	s.current = held{func() string { return text }, version, began.Add(maxAge)}
	return changed, failing
}
