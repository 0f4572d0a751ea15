package handler

import "net/http"

// Lingering is the outermost of the handler's layers around any other handler.
func Lingering(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	lingering(w, r, func(w *response, r *http.Request) { next(w, r) })
}

// IsJSON is the scanner's verdict.
func IsJSON(text []byte) bool { return isJSON(text) }

// MembersOf returns an object's members that are not null.
func MembersOf(text []byte) (map[string]string, error) {
	members, err := membersOf(text, nil)
	values := make(map[string]string)
	for _, m := range members {
		values[m.name] = string(m.value)
	}
	return values, err
}
