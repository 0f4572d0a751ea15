package devstack

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// BehindPrefix returns a reverse proxy that shows the server at target under prefix ("/ory"), and answers 404 elsewhere.
func BehindPrefix(prefix, target string) (http.Handler, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("parse the proxy's target: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
	}
	return http.StripPrefix(prefix, proxy), nil
}
