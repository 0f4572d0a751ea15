package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// list is where features.go begins its list of features.
const list = "return []Feature{\n"

// build builds the program with one feature more, as its author would add it: a line in features.go, and a file. Without a
// feature there is nothing that fails, is sent again, or goes on after its answer.
func build(ctx context.Context, dir string) (program string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	wiring := filepath.Join(root, "features.go")
	text, err := os.ReadFile(wiring)
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(string(text), list)
	if !found {
		return "", errors.New("features.go has its list in another form than this program knows")
	}
	changed := filepath.Join(dir, "features.go")
	line := "\t\tfunc(p Platform) error { return addOrders(p.Events) },\n"
	if err := os.WriteFile(changed, []byte(before+list+line+after), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		wiring:                           changed,
		filepath.Join(root, "orders.go"): filepath.Join(root, "test", "dashboard", "live", "testdata", "orders.go"),
	}})
	if err != nil {
		return "", err
	}
	overlaid, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "function")
	if err := os.WriteFile(overlaid, overlay, 0o600); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-overlay", overlaid, "-o", program, "./function")
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the function: %w: %s", err, output)
	}
	return program, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "coffeebuddy").Output()
	if err != nil {
		return "", fmt.Errorf("find the root module: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}
