// Package handlertest is for the tests of features: it builds events, runs the real
// handler with a feature's receivers, and delivers events as a Knative broker does,
// so that what becomes of an event that fails is a test of three lines.
//
//	f := handlertest.New(t, coffee.Register)
//	d := f.Deliver(handlertest.Event("coffee.ordered", `{"drink":"tea"}`))
//	is.True(d.DeadLetter != nil) // and d.Attempts says how often it was tried
//
// It is no broker to build on, and nothing outside of tests imports it.
package handlertest

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
)

// A Function is the handler with the receivers under test. It answers requests
// without a network, and is ready.
type Function struct {
	*handler.Handler

	Events *events.Engine

	logs *logs
}

// New returns a function with features registered. When the test ends, it waits ten
// seconds for what is in flight; work that takes longer fails the test.
func New(t testing.TB, features ...func(*events.Events) error) *Function {
	t.Helper()
	return NewWith(t, func(*events.Config, *handler.Config) {}, features...)
}

// NewWith is New with another configuration, such as a sink.
func NewWith(t testing.TB, change func(*events.Config, *handler.Config), features ...func(*events.Events) error) *Function {
	t.Helper()
	f := &Function{logs: new(logs)}
	log, registry := slog.New(slog.NewJSONHandler(f.logs, nil)), prometheus.NewRegistry()
	engine := events.Config{Registry: registry, Log: log}
	config := handler.Config{Environment: "test", Version: "test", Echo: true, Registry: registry, Log: log}
	change(&engine, &config)
	var err error
	if f.Events, err = events.New(engine); err != nil {
		t.Fatal(err)
	}
	config.Events = f.Events
	if f.Handler, err = handler.New(config); err != nil {
		t.Fatal(err)
	}
	for _, register := range features {
		if err := register(f.Events.Events); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.Wait(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

// Logs returns what was logged so far, lines of JSON.
func (f *Function) Logs() string { return f.logs.String() }

// Event returns an event of a type with JSON data, or without data where that is "".
// Its id is another one each time.
func Event(eventType, data string) event.Event {
	e := event.New()
	e.SetID(rand.Text())
	e.SetSource("//handlertest")
	e.SetType(eventType)
	if data != "" {
		e.SetDataContentType(event.ApplicationJSON)
		e.DataEncoded = []byte(data)
	}
	return e
}

// An Answer is what the function said to one request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Reply  *event.Event // nil for none, and for a malformed one
}

// Send sends an event once.
func (f *Function) Send(e event.Event) Answer { return send(f, e) }

func send(to http.Handler, e event.Event) Answer {
	w := Serve(to, request(e))
	a := Answer{Status: w.Code, Header: w.Result().Header, Body: w.Body.Bytes()}
	if looksLikeAnEvent(a.Header) {
		a.Reply = reply(a)
	}
	return a
}

// logs are written by several goroutines.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
