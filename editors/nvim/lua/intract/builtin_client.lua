--- Suggestions of Neovim's own inline-completion client (0.12 and newer), accepted in pieces, and whole where the user
--- typed on.
local accept = require('intract.accept')
local ghost = require('intract.ghost')
local own_client = require('intract.own_client')

local M = {}

--- Whether this Neovim has such a client.
---
---@return boolean
function M.exists()
  return vim.lsp.inline_completion ~= nil
end

---@param item vim.lsp.inline_completion.Item
---@return intract.Suggestion
local function suggestion_of(item)
  local line, col = unpack(vim.api.nvim_win_get_cursor(0))
  local row, first, last = line - 1, col, col
  if item.range then
    -- It stands as it was when the server was asked, and our server's begin at the cursor: what was typed since lies
    -- in front of the text that is to be replaced.
    row, first, _, last = item.range:to_extmark()
  end
  return {
    bufnr = vim.api.nvim_get_current_buf(),
    row = row,
    col = first,
    text = (item.insert_text:gsub('\r\n?', '\n')),
    replaces = last - first,
    client_id = item.client_id,
    command = item.command,
  }
end

local settled = true

--- Waits until Neovim has run what it put off when it was asked to accept.
function M.settle()
  vim.wait(1000, function()
    return settled
  end, 1)
end

--- Accepts what Neovim shows. It would insert a suggestion whole at its first position, also where its beginning was
--- typed meanwhile; so it is inserted here.
---
---@param piece intract.Piece
---@param key string typed in its place where the suggestion does not fit the text any more
---@return boolean accepted false where nothing is shown
function M.accept(piece, key)
  local accepted = M.exists()
    and vim.lsp.inline_completion.get({
      on_accept = function(item)
        if type(item.insert_text) ~= 'string' then
          return item
        end
        ghost.show({ suggestion_of(item) })
        if not accept.now(piece) then
          vim.api.nvim_feedkeys(vim.keycode(key), 'in', false)
        end
      end,
    })
  if accepted then
    -- Neovim does it after this event; keys that were typed ahead must come after that, too.
    settled = false
    vim.schedule(function()
      settled = true
    end)
    vim.api.nvim_feedkeys(vim.keycode('<Cmd>lua require("intract.builtin_client").settle()<CR>'), 'in', false)
  end
  return accepted
end

--- Takes away what Neovim shows, and cancels what it asked for; done when this event has been dealt with.
---
---@return boolean shown
function M.dismiss()
  return M.exists() and vim.lsp.inline_completion.get({ on_accept = function() end })
end

--- Shows another one of several suggestions.
---
---@param step integer
function M.cycle(step)
  if M.exists() then
    vim.lsp.inline_completion.select({ count = step })
  end
end

--- Whether Neovim shows a suggestion in the current buffer.
---
---@return boolean
function M.is_visible()
  local namespace = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
  return M.exists() and #vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { limit = 1 }) > 0
end

--- Turns suggestions on for a buffer.
---
---@param bufnr integer
function M.attach(bufnr)
  vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
  local group = vim.api.nvim_create_augroup('intract.suggest.' .. bufnr, { clear = true })
  vim.api.nvim_create_autocmd({ 'CursorMovedI', 'TextChangedI', 'TextChangedP' }, {
    group = group,
    buffer = bufnr,
    desc = 'Follow what is typed of the rest of a suggestion',
    callback = ghost.follow,
  })
  vim.api.nvim_create_autocmd({ 'InsertLeave', 'BufLeave' }, {
    group = group,
    buffer = bufnr,
    desc = 'Take the rest of a suggestion away',
    callback = own_client.abort,
  })
  local newest ---@type integer? Request of Neovim's that has no answer and was not cancelled.
  vim.api.nvim_create_autocmd('LspRequest', {
    group = group,
    buffer = bufnr,
    desc = 'Leave the drawing to Neovim when its answer for the new place has come',
    callback = function(event)
      local id, request = event.data.request_id, event.data.request
      if request.method ~= 'textDocument/inlineCompletion' then
        return
      end
      if request.type == 'pending' then
        newest = id
      elseif id == newest then
        newest = nil
        if request.type == 'complete' then
          ghost.hide()
        end
      end
    end,
  })
end

return M
