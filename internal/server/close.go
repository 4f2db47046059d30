package server

import (
	"errors"
	"net"
)

// Close frees the ports of a server that was never run. After Run it does nothing.
func (s *Server) Close() error {
	s.close()
	var errs []error
	for _, l := range []net.Listener{s.httpListener, s.grpcListener} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
