/** A service of `@feathersjs/socketio-client`. */
export interface Watched {
  find(params?: any): Promise<any>
}

/** The page of a service. The last signature of Feathers' own `find` returns a context, the one before it a page. */
export type PageOf<Service extends Watched> = Service['find'] extends {
  (params?: any): Promise<infer Page>
  (params: any, context: any): Promise<infer Last>
}
  ? unknown extends Page
    ? Last
    : Page
  : any

export interface Options<Page> {
  /** The query of the page. */
  query?: Record<string, any> | undefined
  /** The values of placeholders in the path of the service. */
  route?: Record<string, any> | undefined
  /** Other services whose events may change the page, such as those that it populates. */
  services?: Watched[] | undefined
  /** Called with the first page, and with each one that differs from the last. Equal records keep their reference. */
  onChange(page: Page): void
  /** Called when the page cannot be read. By default `console.error`. */
  onError?: ((error: Error & { code?: number }) => void) | undefined
}

export interface Live<Page> {
  /** The current page. Undefined before the first one, and after an error. */
  readonly page: Page | undefined
  /** Ends the watch. */
  stop(): void
}

/** Keeps the page of a query as `find` returns it. Throws a TypeError if the service has no events. */
export function watch<Service extends Watched>(
  service: Service,
  options: Options<PageOf<Service>>
): Live<PageOf<Service>>
