package handler_test

import (
	"strings"
	"testing"

	"github.com/matryer/is"
)

// TestScrapesInAnyCoding are answered, and none writes a line that others pay for.
func TestScrapesInAnyCoding(t *testing.T) {
	t.Parallel()
	for accepted, coding := range map[string]string{
		"": "", "br": "", "identity": "", "gzip": "gzip", "GZIP": "gzip", "br, gzip": "gzip", "deflate, gzip;q=0.5": "gzip",
		"gzip;q=0": "", "gzip; q=0.0": "", "*;q=0": "", "identity;q=0": "", "zstd;q=1, *;q=0": "",
	} {
		is := is.New(t)
		f := newFunction(t)
		w := f.ask("GET", "/metrics", "", "Accept-Encoding", accepted)
		is.Equal(w.Code, 200)
		is.Equal(w.Header().Get("Content-Encoding"), coding) // accepted
		is.True(!strings.Contains(f.logs.String(), `"ERROR"`))
	}
}
