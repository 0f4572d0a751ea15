package slack

import (
	"context"
	"errors"
	"time"
)

// versionAge is how long the result for a version is cached, including that Vault does not have it.
// After this time, a version destroyed in Vault verifies nothing.
const versionAge = 5 * time.Minute

// maxVersions bounds the cache. Vault keeps ten versions by default.
const maxVersions = 32

// versions caches the versions of the secret, besides the current one, that signed events from the
// sink.
type versions struct {
	asking chan struct{} // holds one element while a version is read; made on first use
	known  map[int]held  // an entry without reveal means that Vault has no such version
	began  time.Time     // of the last read
	failed bool          // the last read could not tell
	absent throttle      // reads that found no such version
}

// signer returns the secret to sign an event with and its version, or false if no secret is known.
func (s *secrets) signer() (secret string, version int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range []held{s.current, s.previous} {
		if h.good(time.Now()) {
			return h.reveal(), h.version, true
		}
	}
	return "", 0, false
}

// version returns a version of the secret, ErrNoVersion if there is none, or errNoSecret if that is
// unknown now. Anyone can name versions that do not exist, so reads are throttled as they are for
// signatures that do not match; the current version is read without regard to them.
func (s *secrets) version(ctx context.Context, version int) (string, error) {
	known, fresh := s.knows(version)
	if !fresh && known.reveal != nil { // the current one, as of the last read
		s.renew(ctx, true)
		known, fresh = s.knows(version)
	}
	if !fresh && known.reveal == nil { // known absence is fresh
		s.ask(ctx, version)
		known, fresh = s.knows(version)
	}
	if fresh || known.reveal != nil {
		return known.secret()
	}
	return "", errNoSecret
}

// ask reads a version, unless reads are throttled, and waits for that.
func (s *secrets) ask(ctx context.Context, version int) {
	timer := time.NewTimer(readTimeout)
	defer timer.Stop()
	asking := s.turn()
	select {
	case asking <- struct{}{}:
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	}
	ended := make(chan struct{})
	go func() { // a read can exceed its timeout, for example in a file on a hung file system
		defer close(ended)
		defer func() { <-asking }()
		if _, fresh := s.knows(version); fresh || !s.mayAsk() {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		text, err := s.readVersion(ctx, version)
		s.learn(version, text, err)
	}()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// readVersion reads a version. "No such version" is trusted only if the secret itself can be read:
// a wrong path or Vault policy must not refuse events for good.
func (s *secrets) readVersion(ctx context.Context, version int) (string, error) {
	text, err := s.try(ctx, version)
	if !errors.Is(err, ErrNoVersion) {
		return text, err
	}
	if _, _, ok := s.signer(); !ok {
		if _, err := s.try(ctx, 0); err != nil {
			return "", errNoSecret
		}
	}
	return "", ErrNoVersion
}

// turn returns the channel that holds one element while a version is read.
func (s *secrets) turn() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions.asking == nil {
		s.versions.asking = make(chan struct{}, 1)
		s.versions.known = make(map[int]held)
	}
	return s.versions.asking
}

// knows returns what is known of a version, and whether that is fresh enough to use without a read.
func (s *secrets) knows(version int) (known held, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if h := s.versions.known[version]; now.Before(h.until) {
		return h, true
	}
	if h := s.previous; h.version == version && h.good(now) {
		return h, true
	}
	if h := s.current; h.version == version && h.good(now) {
		return h, h.age(now) < versionAge
	}
	return held{}, false
}

// mayAsk reports whether a version may be read now, and if so records the start of the read.
func (s *secrets) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, now := &s.versions, time.Now()
	pause := v.absent.pause(now)
	if v.absent.count == 0 {
		pause = 0
	}
	if v.failed {
		pause = max(pause, retryPause)
	}
	if now.Sub(v.began) < pause {
		return false
	}
	v.began = now
	return true
}

// learn caches the result of reading a version, unless it says nothing about the version.
func (s *secrets) learn(version int, text string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	h := held{version: version, until: now.Add(versionAge)}
	s.versions.failed = err != nil && !errors.Is(err, ErrNoVersion)
	switch {
	case s.versions.failed:
		return
	case err != nil:
		s.versions.absent.add(now)
	default:
		h.reveal = func() string { return text }
	}
	known := s.versions.known
	for v, old := range known {
		if len(known) >= maxVersions || !now.Before(old.until) {
			delete(known, v)
		}
	}
	known[version] = h
}

// secret returns the secret, or ErrNoVersion if Vault has no such version.
func (h held) secret() (string, error) {
	if h.reveal == nil {
		return "", ErrNoVersion
	}
	return h.reveal(), nil
}

// A throttle spaces out futile reads, which anyone can cause: each is a request to Vault and a use
// of its token. The pause doubles with each futile read, from rereadPause to maxPause, and halves
// for each maxPause without one.
type throttle struct {
	count int       // of futile reads
	since time.Time // when count last changed
}

const (
	maxPause = 5 * time.Minute
	maxCount = 5 // rereadPause doubled five times exceeds maxPause
)

// pause returns the minimum time between the last read and the next.
func (t *throttle) pause(now time.Time) time.Duration {
	for t.count > 0 && now.Sub(t.since) >= maxPause {
		t.count, t.since = t.count-1, t.since.Add(maxPause)
	}
	return min(rereadPause<<t.count, maxPause)
}

// add counts a futile read.
func (t *throttle) add(now time.Time) { t.count, t.since = min(t.count+1, maxCount), now }
