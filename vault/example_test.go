package vault_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"coffeebuddy/vault"
)

// A feature reads a secret on each use, so that it always uses the current token.
func ExampleClient_Read() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/team/kv/data/coffeebuddy/menu" && r.Header.Get("X-Vault-Token") == "hvs.example" {
			_, _ = io.WriteString(w, `{"data":{"data":{"api_key":"espresso"},"metadata":{"version":3}}}`)
		}
	}))
	defer server.Close()

	client, err := vault.New(vault.Config{Address: server.URL, Token: vault.FixedToken("hvs.example")})
	if err != nil {
		panic(err)
	}
	key, err := client.Read(context.Background(), vault.KV{Mount: "team/kv", Path: "coffeebuddy/menu", Key: "api_key"})
	fmt.Println(key, err)
	// Output: espresso <nil>
}

// Dynamic credentials are also requested on each use. Refused reports that the database no longer
// accepts them.
func ExampleClient_Lease() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"lease_id":"database/creds/orders/1","lease_duration":3600,"renewable":true,
			"data":{"username":"v-orders-1","password":"secret"}}`)
	}))
	defer server.Close()

	client, err := vault.New(vault.Config{Address: server.URL, Token: vault.FixedToken("hvs.example")})
	if err != nil {
		panic(err)
	}
	lease := client.Lease("database/creds/orders")
	credentials, err := lease.Get(context.Background())
	fmt.Println(credentials.Values["username"], credentials.Version, err)
	// Output: v-orders-1 1 <nil>
}
