package sink

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"coffeebuddy/internal/transport"
)

// tokenLimit is the longest token that is sent, in bytes.
const tokenLimit = 16 << 10

// readToken returns the token in a file, "" if there is no such file.
func readToken(path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // it comes from the host
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", errors.New("the token for the sink cannot be read")
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, tokenLimit+1))
	if err != nil {
		return "", errors.New("the token for the sink cannot be read")
	}
	token := strings.TrimSpace(string(content))
	if token == "" || len(token) > tokenLimit || !transport.IsVisible(token) {
		return "", errors.New("the file of the token for the sink holds no token")
	}
	return token, nil
}
