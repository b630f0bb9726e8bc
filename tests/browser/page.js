// What the tests ask of the page: read-only looks into the graph, and the steps a user's hand does.
;(() => {
  const store = (id) =>
    document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s.get(id)
  const node = (id) => {
    const found = app.graph.nodes.find((entry) => String(entry.id) === String(id))
    if (!found) throw new Error(`the page has no node ${id}`)
    return found
  }
  const events = []
  for (const kind of ['execution_start', 'execution_success', 'execution_error', 'execution_cached', 'executed'])
    app.api.addEventListener(kind, (event) => events.push({ kind, detail: event.detail }))

  const slots = (entries) =>
    (entries ?? []).map((slot) => ({ name: slot.name, shown: slot.label ?? slot.localized_name ?? slot.name }))

  const widgets = (entry) =>
    (entry.widgets ?? [])
      .filter((widget) => !widget.name.startsWith('$$'))
      .map((widget) => ({ name: widget.name, shown: widget.label ?? widget.name, value: widget.value }))

  const spread = (image) => {
    const canvas = document.createElement('canvas')
    canvas.width = canvas.height = 64
    const context = canvas.getContext('2d')
    context.drawImage(image, 0, 0, 64, 64)
    const pixels = context.getImageData(0, 0, 64, 64).data.filter((_, index) => index % 4 !== 3)
    return Math.max(...pixels) - Math.min(...pixels)
  }

  window.tillerPage = {
    async clear() {
      for (const dialog of [...(store('dialog')?.dialogStack ?? [])]) store('dialog').closeDialog({ key: dialog.key })
      store('rightSidePanel')?.closePanel()
      await app.loadGraphData({ version: 0.4, last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [] })
      events.length = 0
    },

    drop(name, text) {
      const canvas = document.querySelector('#graph-canvas')
      const box = canvas.getBoundingClientRect()
      const dataTransfer = new DataTransfer()
      dataTransfer.items.add(new File([text], name, { type: 'application/json' }))
      const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 }
      for (const kind of ['dragenter', 'dragover', 'drop'])
        canvas.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer, ...place }))
    },

    nodes: () =>
      app.graph.nodes.map((entry) => ({
        id: String(entry.id),
        type: entry.type,
        title: entry.title,
        registered: entry.type in LiteGraph.registered_node_types,
        values: entry.serialize().widgets_values ?? [],
        widgets: widgets(entry),
        inputs: slots(entry.inputs),
        outputs: slots(entry.outputs)
      })),

    add(type) {
      const made = LiteGraph.createNode(type)
      if (!made) throw new Error(`the page cannot make a ${type}`)
      app.graph.add(made)
      return String(made.id)
    },

    connect: (from, output, to, input) => {
      const slot = node(to).inputs.findIndex((entry) => entry.name === input)
      if (slot < 0) throw new Error(`node ${to} has no input ${input}`)
      node(from).connect(output, node(to), slot)
    },

    disconnect: (id, input) => node(id).disconnectInput(node(id).inputs.findIndex((entry) => entry.name === input)),

    linked: (id) => node(id).inputs.filter((slot) => slot.link !== null).map((slot) => slot.name),

    set(id, name, value) {
      const widget = node(id).widgets.find((entry) => entry.name === name)
      if (!widget) throw new Error(`node ${id} has no widget ${name}`)
      widget.setValue(value, { e: new PointerEvent('pointerup'), node: node(id), canvas: app.canvas })
    },

    async reload() {
      await app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())))
    },

    prompt: async () => (await app.graphToPrompt()).output,

    missingModels: () =>
      (store('missingModel').missingModelCandidates ?? []).map(({ nodeId, name, directory, url }) => ({
        node: String(nodeId),
        name,
        directory,
        url
      })),

    missingNodes: () => (store('missingNodesError').missingNodesError?.nodeTypes ?? []).map((entry) => entry.type ?? entry),

    missingMedia: () => (store('missingMedia').missingMediaCandidates ?? []).map((entry) => entry.name),

    events: () => events,

    finished: () =>
      events.some(({ kind }) => kind === 'execution_success' || kind === 'execution_error') ||
      Object.keys(app.extensionManager.lastNodeErrors ?? {}).length > 0,

    nodeErrors: () => app.extensionManager.lastNodeErrors ?? {},

    files: (id) => (app.nodeOutputs[id]?.images ?? []).map((image) => image.filename),

    // The pictures that node `id` shows: from the drawn node, or from the document with Vue nodes.
    pictures(id) {
      const own = LiteGraph.vueNodesMode
        ? [...document.querySelectorAll(`[data-node-id="${id}"] img`)].filter((image) => image.getClientRects().length)
        : (node(id).imgs ?? [])
      return own.map((image) => ({
        file: new URL(image.src, location.href).searchParams.get('filename'),
        size: [image.naturalWidth, image.naturalHeight],
        spread: image.complete && image.naturalWidth ? spread(image) : 0
      }))
    },

    center(id) {
      app.canvas.ds.scale = 1
      app.canvas.centerOnNode(node(id))
      app.canvas.setDirty(true, true)
    },

    select: (id) => app.canvas.selectNode(node(id)),

    // Where things are in the window: the title, or a widget by name.
    place(id, name) {
      const entry = node(id)
      const widget = name && entry.widgets.find((own) => own.name === name)
      const [x, y] = [entry.pos[0] + entry.size[0] / 3, entry.pos[1] + (widget ? widget.y + 10 : -15)]
      const [left, top] = app.canvas.ds.convertOffsetToCanvas([x, y])
      const box = app.canvas.canvas.getBoundingClientRect()
      return [left + box.x, top + box.y]
    },

    text: (key) => document.querySelector('#vue-app').__vue_app__.config.globalProperties.$t(key)
  }
})()
