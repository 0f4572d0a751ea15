package checks

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	ory "github.com/ory/client-go"
)

// redirectLimit is how many redirects on the same host are followed. Kratos'
// admin port answers with one.
const redirectLimit = 3

// Ory checks that an Ory server (Hydra, Kratos, Keto, or Oathkeeper's API port)
// is ready: GET {base}/health/ready is 200 and {"status":"ok"}.
//
// The newest client-go has no call for it, so the request is our own, by the
// http.Client of client-go's configuration.
type Ory struct {
	base string

	building sync.Mutex
	built    *ory.Configuration // nil until first asked, and after a failure that a new client may heal
}

// NewOry returns a check of the server at a base URL, which may have a path
// prefix and trailing slashes. It connects to nothing before it is first asked.
func NewOry(baseURL string) *Ory {
	return &Ory{base: strings.TrimRight(baseURL, "/")}
}

// Name returns "ory".
func (o *Ory) Name() string { return "ory" }

// Configuration returns what the check asks with, and builds it if there is none: a
// feature makes its client of it, with ory.NewAPIClient. It knows our server only,
// has no proxy, reads at most 64 KiB of an answer and follows no redirect to
// another host. client-go's own default is Ory's public network and no deadline.
//
// The API client itself is not made here: the check has no use for it, and the
// calls that it brings are 4.4 MB of binary.
func (o *Ory) Configuration() *ory.Configuration {
	o.building.Lock()
	defer o.building.Unlock()
	if o.built == nil {
		o.built = newOryConfiguration(o.base, newTransport(nil))
	}
	return o.built
}

func newOryConfiguration(base string, transport *http.Transport) *ory.Configuration {
	c := ory.NewConfiguration()
	c.Servers = ory.ServerConfigurations{{URL: base}}
	c.OperationServers = nil // else some calls go to Ory's public network, whatever Servers says
	c.HTTPClient = &http.Client{Transport: bounded{transport}, CheckRedirect: sameHost}
	return c
}

// Check asks for the server's own readiness.
func (o *Ory) Check(ctx context.Context) error {
	err := checkReady(ctx, o.Configuration().HTTPClient, o.base+"/health/ready")
	if ReasonOf(err) == ReasonTLS {
		o.discard()
	}
	return err
}

func (o *Ory) discard() {
	o.building.Lock()
	defer o.building.Unlock()
	o.built = nil
}

func checkReady(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil { // its text quotes the URL
		return Fail(ReasonMisconfigured, "ORY_BASE_URL: no request can be made of it")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return classify(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return classify(err)
	}
	var answer struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Status != "ok" {
		return Fail(ReasonBadResponse, "health/ready did not answer as Ory does")
	}
	return nil
}

// sameHost follows up to redirectLimit redirects that stay on scheme, host and port.
func sameHost(next *http.Request, via []*http.Request) error {
	switch first := via[0].URL; {
	case len(via) > redirectLimit:
		return &Error{ReasonBadResponse, "too many redirects"}
	case next.URL.Scheme != first.Scheme, !strings.EqualFold(next.URL.Hostname(), first.Hostname()),
		portOf(next) != portOf(via[0]):
		return &Error{ReasonBadResponse, "a redirect to another host, which is not followed"}
	}
	return nil
}

func portOf(req *http.Request) string {
	if port := req.URL.Port(); port != "" {
		return port
	}
	if req.URL.Scheme == "https" {
		return "443"
	}
	return "80"
}
