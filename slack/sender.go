package slack

import "strings"

// A sender is the installation of the app that a request is for; features store data per
// installation. Any of the ids may be missing.
type sender struct {
	enterprise, team, app string
	org                   bool // the app is installed in the enterprise, not in one team
}

// source returns the sender as the source attribute of events.
func (s sender) source() (string, error) {
	source := "//slack.com"
	switch {
	case s.enterprise != "" && (s.org || s.team == ""):
		source += "/enterprises/" + s.enterprise
	case s.team != "":
		source += "/teams/" + s.team
	}
	if s.app != "" {
		source += "/apps/" + s.app
	}
	for _, id := range []string{s.enterprise, s.team, s.app} {
		if id != "" && !isWord(id) {
			return "", errMalformed
		}
	}
	return source, nil
}

// eventSender returns the sender of an Events API event: its first authorization, which is the only
// one that Slack lists. In a channel shared between companies, the envelope's own ids are those of
// the channel's owner.
func eventSender(envelope object) sender {
	authorization := envelope.head("authorizations")
	s := sender{
		enterprise: authorization.text("enterprise_id"), team: authorization.text("team_id"),
		app: envelope.text("api_app_id"), org: authorization.flag("is_enterprise_install"),
	}
	if s.enterprise == "" && s.team == "" {
		s.enterprise = first(envelope.text("enterprise_id"), envelope.text("context_enterprise_id"))
		s.team = first(envelope.text("team_id"), envelope.text("context_team_id"))
	}
	return s
}

// interactionSender returns the sender of an interaction. For a view it is where the view says that
// the app is installed: the other ids belong to the user, who may be a guest from another company.
func interactionSender(payload object) sender {
	user, view := payload.object("user"), payload.object("view")
	s := sender{
		enterprise: payload.object("enterprise").text("id"), team: payload.object("team").text("id"),
		app: payload.text("api_app_id"), org: payload.flag("is_enterprise_install"),
	}
	installed := view.text("app_installed_team_id")
	switch {
	case strings.HasPrefix(installed, "E"): // installed in an enterprise
		s.enterprise, s.org = installed, true
	case installed == "", s.org && (s.team == "" || s.team == installed):
	default:
		s.enterprise, s.team, s.org = "", installed, false
	}
	if s.team == "" && s.enterprise == "" {
		s.team = first(user.text("team_id"), view.text("team_id"))
	}
	return s
}
