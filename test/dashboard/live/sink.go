package live

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// serveSink serves a broker's ingress until ctx ends, and returns its URL. It takes its time, refuses one event in nine
// and every receipt for good, and one in seven for now; all of them for now while there is trouble, so that the outbox
// fills.
func serveSink(ctx context.Context, trouble *atomic.Bool) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	var requests atomic.Int64
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			n := requests.Add(1)
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Duration(n%5) * 150 * time.Millisecond):
			}
			switch {
			case n%9 == 0, r.Header.Get("Ce-Type") == "coffee.receipt":
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			case n%7 == 0, trouble.Load():
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				w.WriteHeader(http.StatusAccepted)
			}
		}),
	}
	go func() { _ = server.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), nil
}
