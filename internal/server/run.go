package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// Run serves until ctx ends, then takes no new calls, ends the streams, waits for the calls under way up to DrainTimeout,
// and returns. It returns early with the error of a listener that fails. REQUIRES: Listen has returned.
func (s *Server) Run(ctx context.Context) error {
	web := s.webServer()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := web.Serve(s.httpListener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := s.grpc.Serve(s.grpcListener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve grpc: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		s.keepHealth(gctx)
		return s.drain(web)
	})
	return g.Wait()
}

func (s *Server) webServer() *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // proxies may carry many streams over one connection
	return &http.Server{
		Handler:           s.limit(s.mux),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.options.MaxStreams + callsPerConnection},
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       s.options.RequestTimeout, // taken off once a request is read
		WriteTimeout:      s.options.RequestTimeout + answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    readHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// drain ends the service of both protocols.
func (s *Server) drain(web *http.Server) error {
	s.health.Shutdown()
	s.close()
	ctx, cancel := context.WithTimeout(context.Background(), s.options.DrainTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	err := web.Shutdown(ctx)
	cut := errors.Is(err, context.DeadlineExceeded)
	if cut {
		err = web.Close()
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		cut = true
		s.grpc.Stop()
		<-stopped
	}
	if cut {
		s.log.Warn("calls were still under way at the end of the drain time and were cut", slog.Duration("after", s.options.DrainTimeout))
	}
	return err
}
