package vault

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"
)

// A TokenSource returns the current Vault token, or why there is none. It is called on each use,
// possibly concurrently, and must return when ctx ends.
type TokenSource func(ctx context.Context) (string, error)

// FixedToken returns a source for one fixed token.
func FixedToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// tokenLimit is the size of the largest token file, in bytes. Batch tokens, the longest ones, take
// some hundreds.
const tokenLimit = 16 << 10

// TokenFile returns a source that reads the token from a file on each use: the sink of Vault Agent,
// a file of the CSI driver, or a Secret mounted as a volume. Surrounding white space is trimmed.
// While the file is missing, empty, or contains no token, the reason is misconfigured.
//
// Nothing is cached: reading 100 bytes from memory costs less than a request, and a token that
// replaces the old one by rename, link or overwrite is found on the next use.
func TokenFile(file string) TokenSource {
	return func(context.Context) (string, error) {
		text, err := readFile(file, tokenLimit)
		if err != nil {
			return "", fault.New(fault.Misconfigured, "VAULT_TOKEN_FILE: "+err.Error())
		}
		token := strings.TrimSpace(string(text))
		if why := NoToken(token); why != "" {
			return "", fault.New(fault.Misconfigured, "VAULT_TOKEN_FILE: "+why)
		}
		return token, nil
	}
}

// NoToken returns why a text, without surrounding white space, cannot be a Vault token, or "" if it
// can. Vault itself answers some of these with 500, as if the fault were its own. The reason never
// quotes the text.
func NoToken(text string) (why string) {
	prefixed := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool {
			return len(text) >= len(p) && strings.EqualFold(text[:len(p)], p)
		})
	}
	for _, shape := range []struct {
		is  bool
		why string
	}{
		{text == "", "is empty"},
		{prefixed("\ufeff"), "must not begin with a byte order mark"},
		{strings.HasPrefix(text, "{") || strings.HasPrefix(text, "["), "must be the token alone, not JSON that holds it"},
		{strings.HasPrefix(text, "-----BEGIN"), "must be a token, not a key or a certificate"},
		{strings.ContainsAny(text, "\"'`\u201c\u201d\u2018\u2019"), "must be without quotes"},
		{prefixed("bearer ", "bearer:", "authorization:", "x-vault-token:"), "must be the token alone, without the header around it"},
		{prefixed("VAULT_TOKEN=", "VAULT_TOKEN:", "token:", "token=", "client_token:", "export "), "must be the token alone, without a name before it"},
		{strings.Contains(text, "${") || strings.Contains(text, "$(") || strings.HasPrefix(text, "$") || strings.HasPrefix(text, "<"), "must be the token itself, not a placeholder for it"},
		{!transport.IsVisible(text), "must be printable ASCII without white space"},
		{isJWT(text), "must be a token of Vault's, not a JWT: log in with VAULT_ROLE where that is the service account's"},
		{strings.HasPrefix(text, "/") || strings.HasPrefix(text, "./") || strings.HasPrefix(text, "~/") || prefixed("file:", "http://", "https://"), "must be a token, not where one is: VAULT_TOKEN_FILE takes a file"},
		{strings.HasPrefix(text, "secret/") || strings.HasPrefix(text, "auth/") || prefixed("vault:"), "must be a token, not a path in Vault"},
		{strings.HasPrefix(text, "aHZzL") || strings.HasPrefix(text, "aHZiL") || strings.HasPrefix(text, "aHZyL"), "must be the token as Vault gave it, not base64 of it: it was encoded twice"},
		{slices.Contains([]string{"hvs.", "hvb.", "hvr.", "s.", "b.", "r."}, text), "must be the whole token, not its prefix alone"},
		{strings.Contains(text, ".") && !slices.ContainsFunc([]string{"hvs.", "hvb.", "hvr.", "s.", "b.", "r."}, func(p string) bool { return strings.HasPrefix(text, p) }), "must begin as Vault's tokens do, with hvs. or hvb., or be an id without a dot"},
		{strings.HasSuffix(text, "...") || strings.Contains(text, "***"), "must be the whole token, not what a tool shows of it"},
	} {
		if shape.is {
			return shape.why
		}
	}
	return ""
}

// A fileError is why a file cannot be used. It contains neither the file's name nor its content.
type fileError string

func (e fileError) Error() string { return string(e) }

// readFile returns the content of a regular file of at most limit bytes. It rejects pipes, which
// might never end.
func readFile(name string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names it
	switch {
	case os.IsNotExist(err):
		return nil, fileError("there is no such file")
	case err != nil:
		return nil, fileError("the file cannot be opened")
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fileError("it is no regular file")
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, fileError("the file cannot be read")
	case int64(len(content)) > limit:
		return nil, fileError("the file is too large")
	}
	return content, nil
}

// isJWT reports whether a text has the shape of a signed JWT.
func isJWT(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
	parts := strings.Split(text, ".")
	return len(parts) == 3 && strings.HasPrefix(text, "eyJ") && !slices.ContainsFunc(parts, func(part string) bool {
		return part == "" || strings.Trim(part, alphabet) != ""
	})
}
