package kong

import "time"

// What the function promises, as far as the gateway relies on it. Tests hold it to the
// function's source and settings.

// slackPaths are the only paths that Slack calls, each by POST.
func slackPaths() []string {
	return []string{"/slack/commands", "/slack/interactions", "/slack/events"}
}

const (
	// ackMax is the most that COFFEEBUDDY_SLACK_ACK_AFTER may be set to. The default
	// is 1.8 s.
	ackMax = 2 * time.Second

	// replyMax is how long the function waits for a receiver whose reply is the response.
	// Kong must wait longer, or it cuts off what the function would respond.
	replyMax = 2750 * time.Millisecond

	// slackGivesUp is when Slack shows an error to the user, or sends an event again.
	slackGivesUp = 3 * time.Second

	// slackMargin is for TLS and the network between Slack and Kong.
	slackMargin = 50 * time.Millisecond

	// bodyMax is the largest body that the function reads from Slack: an event's.
	bodyMax = 4 << 20

	// slackMinute is the most that Slack may send in a minute for one workspace:
	// 30,000 events an hour, each up to four times. All may come from one address.
	slackMinute = 30000 / 60 * 4

	// floodMinute is where a rate is a flood: three times Slack's most.
	floodMinute = 3 * slackMinute
)

// forgedHeaders are believed by Knative, or by whoever ends TLS, and so must not come in
// from outside. A test holds Knative's part to Knative's own constants. They are as
// many as one filter of the Gateway API takes.
func forgedHeaders() []string {
	return []string{
		"K-Kubelet-Probe",
		"K-Network-Hash",
		"K-Network-Probe",
		"K-Original-Host",
		"K-Passthrough-Lb",
		"K-Proxy-Request",
		"Knative-Serving-Default-Route",
		"Knative-Serving-Namespace",
		"Knative-Serving-Revision",
		"Knative-Serving-Tag",
		"User-Agent",
		"Client-Cert",
		"Client-Cert-Chain",
		"X-Client-Certificate-CN",
		"X-Client-Certificate-SAN",
		"X-Forwarded-Client-Cert",
	}
}

// The Knative Service, as Knative's gateway knows it.
const (
	knativeName = "coffeebuddy"
	knativeHost = "coffeebuddy.coffeebuddy.svc.cluster.local"
)
