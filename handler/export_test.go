package handler

import "net/http"

// Lingering is the outermost of the handler's layers around any other handler.
func Lingering(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	lingering(w, r, func(w *response, r *http.Request) { next(w, r) })
}

// BytesArriving returns what the bodies that arrive hold of their budget.
func (h *Handler) BytesArriving() int64 { return h.bodies.arriving.Taken() }
