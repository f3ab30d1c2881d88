/*
 * Runs a worker in a hidden frame where a page is opened from a file: browsers refuse real workers
 * there, and the search of the site needs one. Pages that come from a server keep real workers.
 */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      window.addEventListener("message", (event) => {
        if (event.source === this.frame.contentWindow) {
          const copy = new MessageEvent("message", { data: event.data })
          this.dispatchEvent(copy)
          if (this.onmessage) this.onmessage(copy)
        }
      })
      const inside = this.frame.contentDocument
      inside.open()
      inside.write(
        "<!doctype html><body><script>" +
          "window.postMessage = parent.postMessage.bind(parent);" +
          "window.importScripts = (...urls) => urls.reduce(" +
          "  (before, url) => before.then(() => new Promise((done) => {" +
          "    const script = document.createElement('script');" +
          "    script.src = url; script.onload = done; document.body.append(script) }))," +
          "  Promise.resolve());" +
          "</scr" + "ipt><script src='" + url + "'></scr" + "ipt></body>"
      )
      inside.close()
      this.loaded = new Promise((done) => this.frame.addEventListener("load", done))
    }

    postMessage(data) {
      this.loaded.then(() => {
        const event = new MessageEvent("message", { data })
        this.frame.contentWindow.dispatchEvent(event)
      })
    }

    terminate() {
      this.frame.remove()
    }
  }
}
