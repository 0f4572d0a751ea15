package checks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/ory"
)

// A third dependency needs only a type with Name and Check.
type database struct{ ping func(context.Context) error }

func (d database) Name() string                    { return "database" }
func (d database) Check(ctx context.Context) error { return d.ping(ctx) }

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	defer server.Close()
	client, err := ory.New(ory.Config{BaseURL: server.URL})
	if err != nil {
		panic(err)
	}

	readiness, err := checks.New(
		checks.Options{TTL: time.Second, Timeout: 2 * time.Second},
		checks.NewOry(client, nil),
		database{ping: func(context.Context) error { return nil }},
		checks.Misconfigured("vault"),
	)
	if err != nil {
		panic(err)
	}
	verdict := readiness.Verdict(context.Background())
	fmt.Println(verdict.Status)
	for _, name := range []string{"database", "ory", "vault"} {
		fmt.Printf("%s: %s %q\n", name, verdict.Components[name].Status, verdict.Components[name].Reason)
	}
	// Output:
	// degraded
	// database: ok ""
	// ory: ok ""
	// vault: unavailable "misconfigured"
}
