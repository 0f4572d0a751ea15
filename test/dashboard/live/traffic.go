package live

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"coffeebuddy/slack/slacktest"
	"coffeebuddy/test/devstack"
)

// traffic is what comes to the pods that are ready: others get none, as Knative sees to.
type traffic struct {
	token   devstack.Secret // of who may send events
	signing devstack.Secret // of Slack
	client  *http.Client
	sent    sync.WaitGroup
}

// usual is what is asked of a pod, one after the other and over again. Each word is the subject of an event, which says what
// its receiver does and how long it takes, or one of those that request knows.
func usual() []string {
	return strings.Fields(`
		ok/3ms ok/5ms tell/2ms ok/8ms again ok/3ms slack ok/20ms tell/9ms paid never ok/4ms ok/60ms again tell/3ms
		ok/5ms slack malformed ok/12ms tell/7ms later ok/3ms slow-slack ok/5ms unknown ok/9ms forged-slack ok/4ms
		slack-again stranger receipt ok/30ms lost durable-slack ok/3ms durable-slack`)
}

// trouble is what is asked while a receiver has some.
func trouble() []string {
	return strings.Fields(`
		fail/40ms later ok/20ms fail/90ms later tell%20nobody/9ms ok/50ms slack fail/30ms hang panic fail/60ms ok/9ms`)
}

// rush is more than a pod takes at a time.
func rush() []string { return strings.Fields("ok/900ms ok/900ms ok/900ms slow-slack") }

// flow sends what is asked, so many a second, to a pod while it is ready, until ctx ends.
func (t *traffic) flow(ctx context.Context, p *pod, rate int, asked func() []string) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.ready.Load() {
			list := asked()
			t.sent.Go(func() { t.send(ctx, p, list[i%len(list)], i) })
		}
	}
}

// send sends one request and reads its answer, whatever that is: the function counts it.
func (t *traffic) send(ctx context.Context, p *pod, what string, i int) {
	request, err := t.request(ctx, p, what, i)
	if err != nil {
		return // of a test's end alone
	}
	response, err := t.client.Do(request)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

func (t *traffic) request(ctx context.Context, p *pod, what string, i int) (*http.Request, error) {
	interaction := fmt.Sprintf(`{"type":"block_actions","team":{"id":"T1"},"api_app_id":"A1","user":{"id":"U1"},"trigger_id":"%d.1"}`, i)
	switch what {
	case "slack", "durable-slack":
		text := "ping"
		if what == "durable-slack" {
			text = "echo beans"
		}
		form := url.Values{"team_id": {"T1"}, "api_app_id": {"A1"}, "user_id": {"U1"}, "command": {"/coffee"}, "text": {text}, "trigger_id": {strconv.Itoa(i)}}
		return t.fromSlack(ctx, p, slacktest.Request(t.signing.Reveal(), "/slack/commands", "application/x-www-form-urlencoded", form.Encode()))
	case "slack-again":
		return t.fromSlack(ctx, p, slacktest.Command(t.signing.Reveal(), "/coffee ping"))
	case "slow-slack":
		return t.fromSlack(ctx, p, slacktest.Interaction(t.signing.Reveal(), interaction))
	case "forged-slack":
		return t.fromSlack(ctx, p, slacktest.Command("of-somebody-else", "/coffee ping"))
	case "lost":
		return http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/wp-login.php", nil)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address, strings.NewReader(`{"beans":"arabica"}`))
	if err != nil {
		return nil, err
	}
	id, eventType := strconv.Itoa(i), "coffee.ordered"
	switch what {
	case "again":
		id = "the same"
	case "unknown":
		eventType = "tea.ordered"
	case "paid", "receipt":
		eventType = "coffee.paid"
	}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "//shop.example.com", "Ce-Type": eventType, "Ce-Subject": what,
		"Content-Type": "application/json", "Authorization": "Bearer " + t.token.Reveal(),
	} {
		request.Header.Set(name, value)
	}
	switch what {
	case "malformed":
		request.Header.Del("Ce-Id")
	case "stranger":
		request.Header.Del("Authorization")
	}
	return request, nil
}

// fromSlack sends a signed request where the pod is.
func (t *traffic) fromSlack(ctx context.Context, p *pod, signed *http.Request) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+signed.URL.Path, signed.Body)
	if err != nil {
		return nil, err
	}
	request.Header, request.ContentLength = signed.Header, signed.ContentLength
	return request, nil
}
