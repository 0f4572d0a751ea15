package handlertest

import (
	"net/http"
	"net/http/httptest"
)

// Serve has a handler answer a request without a network, and returns when a client would have
// the response: when the handler returns, or when it has flushed a response that ends the
// connection, as it does for a receiver that is still running.
func Serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := &recorder{ResponseRecorder: httptest.NewRecorder(), complete: make(chan any, 1)}
	go func() {
		defer func() { w.end(recover()) }()
		h.ServeHTTP(w, r)
	}()
	if panicked := <-w.complete; panicked != nil {
		panic(panicked)
	}
	return w.ResponseRecorder
}

// A recorder knows when its response is complete.
type recorder struct {
	*httptest.ResponseRecorder

	complete chan any // what the handler panicked with, nil for nothing
}

func (r *recorder) Flush() {
	r.ResponseRecorder.Flush()
	if r.Header().Get("Connection") == "close" {
		r.end(nil)
	}
}

// end makes the response complete, unless it is.
func (r *recorder) end(panicked any) {
	select {
	case r.complete <- panicked:
	default:
	}
}
