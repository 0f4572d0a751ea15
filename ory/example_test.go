package ory_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"coffeebuddy/ory"
)

// A feature calls another service with an access token from Hydra.
func ExampleOutgoing_Client() {
	hydra := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"ory_at_example","token_type":"bearer","expires_in":3600}`)
	}))
	defer hydra.Close()
	orders := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(r.URL.Path, r.Header.Get("Authorization"))
	}))
	defer orders.Close()

	outgoing, err := ory.NewOutgoing(ory.OutgoingConfig{
		TokenURL:    hydra.URL + "/oauth2/token",
		Credentials: func(context.Context) (id, secret string, err error) { return "coffeebuddy", "secret", nil },
	})
	if err != nil {
		panic(err)
	}
	client, err := outgoing.Client(ory.Target{BaseURL: orders.URL + "/api", Scopes: []string{"orders.read"}, Audience: "orders"})
	if err != nil {
		panic(err)
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, orders.URL+"/api/today", http.NoBody)
	if err != nil {
		panic(err)
	}
	response, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	response.Body.Close()
	// Output: /api/today Bearer ory_at_example
}
