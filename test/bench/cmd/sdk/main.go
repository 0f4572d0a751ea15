// Command sdk receives events with the CloudEvents SDK's HTTP receiver: it answers boson.fn with what came, and any other with nothing.
package main

import (
	"context"
	"net/http"

	"github.com/cloudevents/sdk-go/v2/client"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"coffeebuddy/test/bench/internal/receiver"
	"coffeebuddy/test/bench/internal/served"
)

func main() {
	protocol, err := cehttp.New()
	if err != nil {
		served.Exit(err)
	}
	receiver, err := client.NewHTTPReceiveHandler(context.Background(), protocol, receiver.Receive)
	if err != nil {
		served.Exit(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", served.Live)
	mux.Handle("POST /", receiver)
	served.Run(mux)
}
