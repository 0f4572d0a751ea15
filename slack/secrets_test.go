package slack_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

// A keeper fakes Vault: it answers each read after a delay, and counts the reads. It keeps every
// secret that was set as a version.
type keeper struct {
	mu       sync.Mutex
	secret   string
	err      error
	takes    time.Duration
	reads    []time.Time
	versions []string
}

func (k *keeper) read(ctx context.Context, version int) (string, int, error) {
	k.mu.Lock()
	k.reads = append(k.reads, time.Now())
	secret, err, takes := k.secret, k.err, k.takes
	switch {
	case version == 0:
		version = len(k.versions)
	case version > len(k.versions) || k.versions[version-1] == "":
		err = slack.ErrNoVersion
	default:
		secret = k.versions[version-1]
	}
	if k.err != nil {
		err = k.err
	}
	k.mu.Unlock()
	if takes < 0 {
		panic("canary")
	}
	select {
	case <-time.After(takes):
		return secret, version, err
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
}

func (k *keeper) set(secret string, err error, takes time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if secret != k.secret && secret != "" {
		k.versions = append(k.versions, secret)
	}
	k.secret, k.err, k.takes = secret, err, takes
}

// destroy destroys a version, as Vault can.
func (k *keeper) destroy(version int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.versions[version-1] = ""
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.reads)
}

// withKeeper runs a test with a Slack whose secret comes from a keeper, in a synctest bubble. ping
// returns the status of a ping signed with a secret.
func withKeeper(t *testing.T, test func(is *is.I, k *keeper, s *slacktest.Slack, ping func(secret string) int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		s := slacktest.NewWith(t, func(c *slack.Config) { c.Secret = k.read })
		test(is.New(t), k, s, func(secret string) int {
			return s.Send(slacktest.Command(secret, "/coffee ping")).Status
		})
	})
}

func TestSecretIsReadOnceAndWhenItIsNeeded(t *testing.T) {
	withKeeper(t, func(is *is.I, k *keeper, s *slacktest.Slack, ping func(string) int) {
		for range 10 { // no secret could make it valid
			r := slacktest.Command("old", "/coffee ping")
			r.Header.Del("X-Slack-Signature")
			is.Equal(s.Send(r).Status, 401)
		}
		is.Equal(k.count(), 0)
		var together sync.WaitGroup
		for range 20 {
			together.Go(func() { is.Equal(ping("old"), 200) })
		}
		together.Wait()
		is.Equal(k.count(), 1) // one read for all of them
		is.Equal(ping("old"), 200)
		is.Equal(k.count(), 1)
	})
}

// TestRotation checks a rotation under load: valid requests are refused for ten seconds at most,
// however many forged ones arrive, and the old secret stays valid for five more minutes.
func TestRotation(t *testing.T) {
	withKeeper(t, func(is *is.I, k *keeper, _ *slacktest.Slack, ping func(string) int) {
		is.Equal(ping("old"), 200)
		time.Sleep(3 * time.Second)
		k.set("new", nil, time.Millisecond)
		rotated := time.Now()
		for time.Since(rotated) < 30*time.Second {
			is.Equal(ping("forged"), 401)
			is.Equal(ping("old"), 200)
			if status := ping("new"); time.Since(rotated) > 10*time.Second {
				is.Equal(status, 200)
			}
			time.Sleep(100 * time.Millisecond)
		}
		is.True(k.count() <= 5) // at most once in ten seconds
		for i := 1; i < len(k.reads); i++ {
			is.True(k.reads[i].Sub(k.reads[i-1]) >= 10*time.Second)
		}
		time.Sleep(time.Until(rotated.Add(4*time.Minute + 30*time.Second)))
		is.Equal(ping("old"), 200)
		time.Sleep(time.Minute)
		is.Equal(ping("old"), 401)
		is.Equal(ping("new"), 200)
	})
}

// TestForgeriesDoNotSpendTheToken checks that forged requests cause few reads: each read uses
// Vault's token. During an attack a rotation takes longer to be noticed; half an hour after the
// attack, it takes as long as before.
func TestForgeriesDoNotSpendTheToken(t *testing.T) {
	withKeeper(t, func(is *is.I, k *keeper, _ *slacktest.Slack, ping func(string) int) {
		is.Equal(ping("old"), 200)
		began := time.Now()
		for time.Since(began) < time.Hour {
			is.Equal(ping("forged"), 401)
			time.Sleep(5 * time.Second)
		}
		is.Equal(k.count(), 1+15) // 10, 20, 40, 80 and 160 s apart, and then 5 minutes
		noticed := func(secret string) time.Duration {
			k.set(secret, nil, time.Millisecond)
			rotated := time.Now()
			for ping(secret) != 200 {
				time.Sleep(time.Second)
				ping("forged")
			}
			return time.Since(rotated)
		}
		is.True(noticed("new") <= 5*time.Minute)
		is.True(noticed("newer") <= 10*time.Second+time.Millisecond) // as before the forgeries
		for range 5 {
			ping("forged")
			time.Sleep(5 * time.Minute)
		}
		time.Sleep(time.Minute)
		is.True(noticed("newest") <= 10*time.Second+time.Millisecond)
	})
}

// TestRotationThatNobodyMentions checks that the refresh notices a rotation even if no request is
// signed with the new secret, so that the old secret expires.
func TestRotationThatNobodyMentions(t *testing.T) {
	withKeeper(t, func(is *is.I, k *keeper, s *slacktest.Slack, ping func(string) int) {
		is.Equal(ping("old"), 200)
		k.set("new", nil, time.Millisecond)
		time.Sleep(61 * time.Second)
		began := time.Now()
		is.Equal(ping("old"), 200) // at once: the read runs in the background
		is.Equal(time.Since(began), time.Duration(0))
		time.Sleep(5*time.Minute + time.Second)
		is.Equal(ping("old"), 401)
		is.True(strings.Contains(s.Logs(), "signing secret has changed"))
	})
}

// TestVaultIsDown checks that the last secret stays valid for an hour, and that every request is
// refused after that.
func TestVaultIsDown(t *testing.T) {
	withKeeper(t, func(is *is.I, k *keeper, s *slacktest.Slack, ping func(string) int) {
		is.Equal(ping("old"), 200)
		began := time.Now()
		k.set("", errors.New("sealed: Vault is sealed"), time.Millisecond)
		for time.Since(began) < time.Hour-time.Second {
			is.Equal(ping("old"), 200)
			is.Equal(ping("new"), 401)
			time.Sleep(7 * time.Second)
		}
		for i := 1; i < len(k.reads); i++ {
			is.True(k.reads[i].Sub(k.reads[i-1]) >= 10*time.Second) // a Vault that is down is not hammered
		}
		time.Sleep(10 * time.Second)
		is.Equal(ping("old"), 503)
		is.Equal(ping("new"), 503)
		is.Equal(strings.Count(s.Logs(), "cannot be read"), 1) // once, not on each read
		is.True(strings.Contains(s.Logs(), "sealed: Vault is sealed"))
		k.set("new", nil, time.Millisecond)
		time.Sleep(3 * time.Second)
		is.Equal(ping("old"), 401) // it was too old to become the previous secret
		is.Equal(ping("new"), 200)
		is.Equal(strings.Count(s.Logs(), "can be read again"), 1)
	})
}

// TestNoSecretYet checks that without a secret every request is refused quickly, with few reads.
func TestNoSecretYet(t *testing.T) {
	for when, fault := range map[string]*keeper{
		"an error":       {err: errors.New("denied"), takes: time.Millisecond},
		"a read hangs":   {secret: "old", takes: time.Hour},
		"it is empty":    {secret: " \n", takes: time.Millisecond},
		"a refused port": {err: errors.New("refused"), takes: 0},
		"a panic":        {takes: -1},
	} {
		t.Run(when, func(t *testing.T) {
			withKeeper(t, func(is *is.I, k *keeper, s *slacktest.Slack, ping func(string) int) {
				k.set(fault.secret, fault.err, fault.takes)
				began := time.Now()
				var together sync.WaitGroup
				for range 20 {
					together.Go(func() {
						a := s.Send(slacktest.Command("old", "/coffee ping"))
						is.Equal(a.Status, 503)
						is.Equal(a.Body, `{"error":"unavailable"}`+"\n")
						is.Equal(a.Header.Get("Retry-After"), "2")
					})
				}
				together.Wait()
				is.True(time.Since(began) <= time.Second)
				is.Equal(k.count(), 1)
				began = time.Now()
				is.Equal(ping("old"), 503)
				is.Equal(time.Since(began), time.Duration(0)) // at once: a read has just failed
				k.set(" old\n", nil, time.Millisecond)        // with the white space of a file
				time.Sleep(2 * time.Second)
				is.Equal(ping("old"), 200)
			})
		})
	}
}

// TestAReadThatHangs checks that a hung read, such as one of a file on a hung file system, delays
// no request for longer than a read may take, and that a client which disconnects does not affect
// others waiting for the same read.
func TestAReadThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		come := make(chan struct{})
		s := slacktest.NewWith(t, func(c *slack.Config) {
			c.Secret = func(context.Context, int) (string, int, error) { <-come; return slacktest.Secret, 1, nil }
		})
		for range 2 { // the second waits for the first one's read
			began := time.Now()
			is.Equal(s.Command("/coffee ping").Status, 503)
			is.Equal(time.Since(began), time.Second)
		}
		close(come)
		synctest.Wait()
		is.Equal(s.Command("/coffee ping").Status, 200)
	})
}

func TestOneWhoLeavesChangesNothing(t *testing.T) {
	withKeeper(t, func(is *is.I, k *keeper, s *slacktest.Slack, ping func(string) int) {
		k.set("old", nil, 500*time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan int)
		go func() {
			r := slacktest.Command("old", "/coffee ping").WithContext(ctx)
			left <- s.Send(r).Status
		}()
		synctest.Wait()
		stayed := make(chan int)
		go func() { stayed <- ping("old") }()
		synctest.Wait()
		cancel()
		is.Equal(<-left, http.StatusServiceUnavailable)
		is.Equal(<-stayed, 200)
		is.Equal(k.count(), 1)
	})
}
