package coffeebuddy

// Refused counts a response that the server sent by itself to what never became a request.
func (f *Function) Refused(status int) { f.handler.Refused(status) }
