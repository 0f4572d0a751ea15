// Package sink sends events to one sink, such as a broker's ingress, by the CloudEvents HTTP
// binding in binary mode. It retries what Knative's own senders retry.
package sink

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/attribute"
	"coffeebuddy/events/binding"
	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// attemptTimeout limits one attempt. A dial has the same limit: net/http detaches it
	// from the request that it is for.
	attemptTimeout = 10 * time.Second

	// sendTimeout is the deadline of a Send whose context has none, such as a task's.
	sendTimeout = time.Minute

	// drainTimeout and drainLimit bound what is read of a response's body, which means
	// nothing, so that its connection can be used again.
	drainTimeout = 100 * time.Millisecond
	drainLimit   = 64 << 10

	// idleTimeout is how long an unused connection is kept.
	idleTimeout = 15 * time.Second
)

// Config is what a Sender is made of. There is no default for the URL.
type Config struct {
	URL       string            // absolute, http or https, without a user
	Overrides map[string]string // extension attributes that are set last on every event
	CACerts   string            // PEM certificates to trust besides the system's
	TokenFile string            // holds the bearer token, if it exists; read at each attempt. "" stands for /oidc/token
	InFlight  int               // concurrency limit: events, and connections, at a time. 0 stands for 64

	Registry prometheus.Registerer // where the metrics are registered. Nil: nowhere
}

// A Sender sends events to a sink. It implements [events.Sender].
type Sender struct {
	config    Config
	client    *http.Client
	transport *http.Transport
	slots     chan struct{}
	metrics   *metrics
}

// New returns a Sender, which connects to nothing before the first Send. It uses no proxy.
func New(config Config) (*Sender, error) {
	u, err := url.Parse(config.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil: // err quotes the URL
		return nil, errors.New("make a sender: the sink must be an absolute URL, http or https, without a user")
	case config.InFlight < 0:
		return nil, errors.New("make a sender: InFlight is negative")
	}
	if config.InFlight == 0 {
		config.InFlight = 64
	}
	if config.TokenFile == "" {
		config.TokenFile = "/oidc/token"
	}
	if err := checkOverrides(config.Overrides); err != nil {
		return nil, fmt.Errorf("make a sender: %w", err)
	}
	roots, err := rootsWith(config.CACerts)
	if err != nil {
		return nil, fmt.Errorf("make a sender: %w", err)
	}
	t := transport.New(roots)
	t.DialContext, t.DialTLSContext = limited(t.DialContext), limited(t.DialTLSContext)
	t.DisableKeepAlives = false
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost = config.InFlight, config.InFlight
	t.IdleConnTimeout = idleTimeout
	m, err := newMetrics(config.Registry)
	if err != nil {
		return nil, fmt.Errorf("register the sink's metrics: %w", err)
	}
	return &Sender{
		config: config,
		client: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		transport: t,
		slots:     make(chan struct{}, config.InFlight),
		metrics:   m,
	}, nil
}

// ValidOverride reports whether an event can have an extension attribute of a name with a value.
func ValidOverride(name, value string) bool {
	var b attribute.Builder
	wrong := errors.Join(b.Set("id", "1"), b.Set("source", "/"), b.Set("type", "t"), b.Set(name, value))
	e, err := b.Event(nil, false)
	return wrong == nil && err == nil && value != "" && e.Extensions()[name] == value
}

// checkOverrides returns an error for an override that would make an event malformed, or
// change an attribute of the specification.
func checkOverrides(overrides map[string]string) error {
	for name, value := range overrides {
		if !ValidOverride(name, value) {
			return errors.New("an override is no extension attribute with a value that it may have") // names it may not show
		}
	}
	return nil
}

// overridden returns an event with the overrides; the event itself is left alone.
func (s *Sender) overridden(e event.Event) event.Event {
	if len(s.config.Overrides) == 0 {
		return e
	}
	c := e.Context.Clone()
	if v1, ok := c.(*event.EventContextV1); ok {
		// In a header, names that differ only in case are the same.
		maps.DeleteFunc(v1.Extensions, func(name string, _ any) bool { return s.config.Overrides[strings.ToLower(name)] != "" })
	}
	for name, value := range s.config.Overrides {
		_ = c.SetExtension(name, value) // New has checked it
	}
	return event.Event{Context: c, DataEncoded: e.DataEncoded, DataBase64: e.DataBase64}
}

// rootsWith returns the system's roots with some more; nil, which stands for the system's,
// without any.
func rootsWith(certificates string) (*x509.CertPool, error) {
	if certificates == "" {
		return nil, nil //nolint:nilnil // as crypto/tls has it
	}
	roots, err := x509.SystemCertPool()
	if err != nil { // it has none, or they cannot be read
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM([]byte(certificates)) {
		return nil, errors.New("the sink's CA certificates are not in PEM")
	}
	return roots, nil
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// limited gives a dial, including its handshake, a deadline.
func limited(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		return dial(ctx, network, addr)
	}
}

// Send sends a valid event, and returns nil only once the sink has accepted it with a 2xx
// status. It tries again while the deadline of ctx, one minute without any, leaves time: where
// there is no connection or no response, and after 404, 408, 409, 429 and 5xx, with exponential
// backoff and jitter, and no earlier than Retry-After says. The sink may so get an event more
// than once, always with the same id.
//
// Any other status is an [events.Permanent] error, a redirect included. Where time ran out the
// error is an [events.RetryAfter]: a receiver that returns it gets its own event again. No error
// holds the sink's URL or anything that the sink said but its status.
func (s *Sender) Send(ctx context.Context, e event.Event) error {
	ctx, cancel := deadlineOf(ctx)
	defer cancel()
	began := time.Now()
	defer func() { s.metrics.duration.Observe(time.Since(began).Seconds()) }()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return s.failed(0, errors.New("too many events are being sent"))
	}
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()

	out := s.overridden(e)
	header := headerOf(out)
	for attempt := 0; ; attempt++ {
		a := s.attempt(ctx, header, out.Data())
		switch {
		case a.err == nil:
			s.metrics.sent.Inc()
			return nil
		case !a.again:
			s.metrics.refused.Inc()
			return events.Permanent(fmt.Errorf("send an event to the sink: %w", a.err))
		case !transport.Pause(ctx, max(backoff(attempt), a.after)):
			return s.failed(a.after, a.err)
		}
	}
}

// failed returns the error of an event that the sink did not accept in time.
func (s *Sender) failed(after time.Duration, err error) error {
	s.metrics.failed.Inc()
	return events.RetryAfter(max(after, time.Second), fmt.Errorf("send an event to the sink: %w, and no time is left to try again", err))
}

func deadlineOf(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, sendTimeout)
}

// headerOf returns the header of an event in binary mode. Its trace is an HTTP header, too,
// which is where proxies and brokers look for it.
func headerOf(e event.Event) http.Header {
	header := http.Header(binding.Encode(e))
	if text, ok := e.Extensions()["traceparent"].(string); ok && events.ValidTraceparent(text) != "" {
		header.Set("Traceparent", events.ValidTraceparent(text))
	}
	header.Set("User-Agent", "coffeebuddy")
	return header
}

// An attempt is what came of sending an event once. Without an error it was accepted.
type attempt struct {
	err   error
	again bool          // the same may succeed later
	after time.Duration // the sink asks for no attempt before that
}

func (s *Sender) attempt(ctx context.Context, header http.Header, body []byte) attempt {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.URL, bytes.NewReader(body))
	if err != nil { // its text quotes the URL
		return attempt{err: errors.New("no request can be made for it")}
	}
	req.Header = header
	token, err := readToken(s.config.TokenFile)
	if err != nil {
		return attempt{err: err, again: true}
	}
	if token != "" {
		req.Header = header.Clone()
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return attempt{err: fault.Of(err), again: true}
	}
	drain(resp, cancel)
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return attempt{}
	}
	return attempt{
		err:   errors.New("status " + strconv.Itoa(resp.StatusCode)),
		again: retried(resp.StatusCode),
		after: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}

// drain reads a response's body, which may be endless, and closes it.
func drain(resp *http.Response, cancel context.CancelFunc) {
	if resp.StatusCode != http.StatusSwitchingProtocols { // what follows is no body
		timer := time.AfterFunc(drainTimeout, cancel)
		defer timer.Stop()
		_, _ = io.CopyN(io.Discard, resp.Body, drainLimit)
	}
	_ = resp.Body.Close()
}
