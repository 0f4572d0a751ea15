package vault

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"coffeebuddy/internal/fault"
)

// A TokenSource says which Vault token to use at this moment, or why there is none. It is asked at each use, by several at a time, and must stop when ctx ends.
type TokenSource func(ctx context.Context) (string, error)

// FixedToken returns a source of one token.
func FixedToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// tokenLimit is the size of the largest token file, in bytes. Batch tokens, which are
// the longest, have some hundreds.
const tokenLimit = 16 << 10

// TokenFile returns a source that reads the token from a file at each use: Vault
// Agent's sink, a file of the CSI driver, or a Secret that is mounted as a volume.
// Surrounding white space is dropped. As long as the file is missing, empty, or holds
// no token, the reason is [fault.Misconfigured].
//
// Nothing is remembered: 100 bytes from memory cost less than a request, and a token
// that was renamed, linked or written over the old one is seen at the next use.
func TokenFile(file string) TokenSource {
	return func(context.Context) (string, error) {
		text, err := readFile(file, tokenLimit)
		if err != nil {
			return "", fault.New(fault.Misconfigured, "VAULT_TOKEN_FILE: "+err.Error())
		}
		token := strings.TrimSpace(string(text))
		switch {
		case token == "":
			return "", fault.New(fault.Misconfigured, "VAULT_TOKEN_FILE: the file is empty")
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", fault.New(fault.Misconfigured, "VAULT_TOKEN_FILE: the file must hold one token, printable ASCII without white space")
		}
		return token, nil
	}
}

// A fileError says why a file cannot be used, and holds neither its name nor its content.
type fileError string

func (e fileError) Error() string { return string(e) }

// readFile returns the content of a regular file of at most limit bytes. A pipe, which
// might never end, is none.
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
	parts := strings.Split(text, ".")
	return len(parts) == 3 && strings.HasPrefix(text, "eyJ") && !slices.Contains(parts, "") &&
		!strings.ContainsFunc(text, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.=", r))
		})
}
